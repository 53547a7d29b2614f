"""Elements from the names of atoms, for PDB files that leave the column of the element empty."""

from ase.data import atomic_numbers

from ik_e3nn.data.structures.isotopes import HYDROGEN_ISOTOPES

AMINO_ACIDS = (
    *("ALA", "ARG", "ASN", "ASP", "CYS", "GLN", "GLU", "GLY", "HIS", "ILE", "LEU", "LYS", "MET", "PHE", "PRO", "SER"),
    *("THR", "TRP", "TYR", "VAL", "HID", "HIE", "HIP", "HSD", "HSE", "HSP", "CYX", "CYM", "ASH", "GLH", "LYN"),
    *("ACE", "NME", "NMA", "NH2"),  # ends of chains
)
NUCLEOTIDES = ("A", "C", "G", "U", "I", "DA", "DC", "DG", "DT", "DU", "DI", "RA", "RC", "RG", "RU")
WATER = ("HOH", "WAT", "H2O", "DOD", "SOL", "TIP", "TIP3", "TP3", "TIP4", "SPC")
# In these residues CA is an alpha carbon, NE a nitrogen and HG a hydrogen.
_ONE_LETTER_ALONE = frozenset([*AMINO_ACIDS, *NUCLEOTIDES, *WATER])
# Names that do not begin with the symbol of their element.
_NAMED = {"SOD": "Na", "CLA": "Cl", "POT": "K", "CAL": "Ca", "CES": "Cs", "LIT": "Li"}
_ONE_LETTER = "HBCNOFPSKI"


def symbol_of(text: str) -> str:
    """A symbol in its usual spelling; D and T are kept for ``set_isotopes``.

    Raises:
        ValueError: There is no such element.

    >>> symbol_of("CL")
    'Cl'
    """
    symbol = text.capitalize()
    if symbol not in atomic_numbers and symbol not in HYDROGEN_ISOTOPES:
        raise ValueError(f"{text!r} is no chemical element")
    return symbol


def guess_element(name: str, residue_name: str) -> str:
    """The element from the name of an atom, whose first two columns hold the right-aligned symbol.

    Args:
        name: The four columns of the name: "CA  " is calcium, " CA " an alpha carbon, "HG21" a hydrogen.
        residue_name: Name of the residue.

    Returns:
        The symbol.

    Raises:
        ValueError: The name does not determine the element.

    Example:
        >>> guess_element(" CA ", "ALA"), guess_element("CL1 ", "LIG"), guess_element("CA", "CA")
        ('C', 'Cl', 'Ca')
    """
    word = name.strip().rstrip("+-0123456789").upper()
    letters = name.strip().lstrip("0123456789").upper()
    residue = residue_name.rstrip("+-0123456789").upper()
    if word and word == residue and word not in _ONE_LETTER_ALONE:  # an ion
        return _NAMED.get(word) or symbol_of(word)
    two = letters[:2].capitalize()
    if name[:1].isalpha() and len(name.strip()) < 4 and residue_name not in _ONE_LETTER_ALONE and two in atomic_numbers:
        if two in ("Cl", "Br", "Fe", "Si", "Se") or letters[0] not in _ONE_LETTER:
            return two
        raise ValueError(
            f"the element of {name.strip()!r} in {residue_name} may be {two} or {letters[0]}; fill in the "
            "columns 77 and 78"
        )
    return symbol_of(letters[:1])
