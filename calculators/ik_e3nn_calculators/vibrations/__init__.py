"""Vibrations: frequencies, zero-point energy and thermochemistry."""
