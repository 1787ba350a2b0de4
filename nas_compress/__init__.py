"""Hardware-aware neural architecture search for model compression on CPUs."""
