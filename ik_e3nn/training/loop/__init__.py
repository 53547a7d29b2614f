"""The training loop, for Lightning."""
