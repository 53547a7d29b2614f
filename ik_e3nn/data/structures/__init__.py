"""Structures in memory: molecules, isotopes, joining, contacts, duplicates, ranges, and the symmetry of slabs."""
