"""Structures that are sampled and labeled by a reference method."""
