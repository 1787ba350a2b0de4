"""What happens to the chosen sub-network after the search: quantization, export, and measuring the artefacts."""
