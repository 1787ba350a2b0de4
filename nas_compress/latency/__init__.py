"""Latency at scale: measured in a process of its own, and predicted from measured blocks or sub-networks."""
