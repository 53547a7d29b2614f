"""PDB and mmCIF files."""
