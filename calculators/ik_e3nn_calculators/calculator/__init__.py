"""The ASE calculator."""
