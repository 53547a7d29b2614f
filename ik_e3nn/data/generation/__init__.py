"""Structures that are sampled and labelled by a reference method."""
