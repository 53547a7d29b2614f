"""Potentials as machine code."""
