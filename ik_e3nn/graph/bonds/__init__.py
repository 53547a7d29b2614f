"""Covalent bonds, charges and hydrogens of structures."""
