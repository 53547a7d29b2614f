"""Structures in memory: molecules, isotopes, joined ones, contacts and copies, ranges, and the symmetry of slabs."""
