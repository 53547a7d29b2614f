"""Bonds of a geometry, and what is missing from one that is to have them."""
