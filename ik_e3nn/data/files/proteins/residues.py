"""Names of residues in PDB and mmCIF files, whose atoms all have symbols of one letter."""

AMINO_ACIDS = (
    *("ALA", "ARG", "ASN", "ASP", "CYS", "GLN", "GLU", "GLY", "HIS", "ILE", "LEU", "LYS", "MET", "PHE", "PRO", "SER"),
    *("THR", "TRP", "TYR", "VAL", "HID", "HIE", "HIP", "HSD", "HSE", "HSP", "CYX", "CYM", "ASH", "GLH", "LYN"),
    *("ACE", "NME", "NMA", "NH2"),  # ends of chains
)
NUCLEOTIDES = ("A", "C", "G", "U", "I", "DA", "DC", "DG", "DT", "DU", "DI", "RA", "RC", "RG", "RU")
WATER = ("HOH", "WAT", "H2O", "DOD", "SOL", "TIP", "TIP3", "TP3", "TIP4", "SPC")
