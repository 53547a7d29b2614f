"""Structures that runs start from, and constraints on them."""
