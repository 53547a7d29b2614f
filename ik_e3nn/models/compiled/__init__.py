"""Potentials compiled to machine code."""
