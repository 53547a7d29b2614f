"""Energies, forces and stress of structures: finding them, their units, and outliers."""
