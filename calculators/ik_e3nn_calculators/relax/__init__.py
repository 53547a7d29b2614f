"""Relaxation of atoms and cells."""
