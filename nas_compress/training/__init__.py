"""Training of super-networks and fine-tuning of sub-networks; importing it and its `config` needs no torch."""
