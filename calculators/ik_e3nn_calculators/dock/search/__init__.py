"""Energies and relaxation of many poses."""
