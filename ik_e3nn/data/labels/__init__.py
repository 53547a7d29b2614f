"""Energies, forces and stress that come with structures: where they are, in which units, and which stand out."""
