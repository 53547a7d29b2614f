"""Engines against the ASE calculator."""
