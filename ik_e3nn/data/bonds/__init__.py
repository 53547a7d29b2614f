"""Bonds of a geometry, and checks that the molecule is complete."""
