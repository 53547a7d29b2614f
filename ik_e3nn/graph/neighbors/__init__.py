"""Neighbor lists and pairs of near atoms."""
