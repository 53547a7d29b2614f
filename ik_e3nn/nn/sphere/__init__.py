"""Steerable features as functions on the sphere."""
