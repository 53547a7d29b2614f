"""Dynamics and relaxations of many structures at once."""
