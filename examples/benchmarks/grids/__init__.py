"""Pieces of the benchmark of grids."""
