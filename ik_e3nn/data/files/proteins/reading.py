"""PDB and mmCIF files: one conformer of every model, with residues, chains and the names of atoms.

ASE's reader of PDB files keeps all alternate locations, reads an alpha carbon as calcium if the column of the element
is empty, and gives the cell to the first model only. ASE does not read mmCIF files.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.cell import Cell

from ik_e3nn.data.files.proteins.elements import guess_element, symbol_of
from ik_e3nn.data.files.proteins.locations import Site, choose_locations, without_clashing_letters
from ik_e3nn.data.structures.isotopes import HYDROGEN_ISOTOPES, set_isotopes
from ik_e3nn.errors import DataError, locating
from ik_e3nn.graph.occupancy import FULL

logger = logging.getLogger(__name__)

PDB_SUFFIXES = (".pdb", ".ent")
_WORD = re.compile(r"""'.*?'(?=\s|$)|".*?"(?=\s|$)|\S+""")  # a quote ends only before a blank
_COLUMNS = {
    "chain": ("auth_asym_id", "label_asym_id"),
    "number": ("auth_seq_id", "label_seq_id"),
    "insertion": ("pdbx_pdb_ins_code",),
    "residue": ("auth_comp_id", "label_comp_id"),
    "name": ("auth_atom_id", "label_atom_id"),
    "location": ("label_alt_id",),
    "element": ("type_symbol",),
    "occupancy": ("occupancy",),
    "model": ("pdbx_pdb_model_num",),
}


def read_pdb(text: str, path: Path) -> list[Atoms]:
    """All models of a PDB file, one conformer of each.

    Args:
        text: The file's text.
        path: Its name, for messages.

    Returns:
        One structure for each model, with the arrays residuenames, residuenumbers, atomtypes and chainids. The cell of
        CRYST1 is used only for space group P 1, because others need symmetry copies that the file does not contain.

    Raises:
        DataError: A line cannot be read, or there are no atoms.

    Example:
        >>> line = "HETATM    1  O   HOH A   1       1.000   2.000   3.000  1.00  0.00           O"
        >>> read_pdb(line, Path("water.pdb"))[0].arrays["residuenames"].tolist()
        ['HOH']
    """
    models: list[list[Site]] = [[]]
    cell = None
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            if line.startswith("CRYST1") and cell is None:
                cell = _crystal(line, path)
            elif line.startswith(("ATOM", "HETATM")):
                models[-1].append(_pdb_site(line.ljust(80)))
            elif line.startswith("END"):
                models.append([])
        except ValueError as error:
            raise DataError(f"line {number} of {path} cannot be read: {error}; got {line[:60]!r}") from error
    return _structures([model for model in models if model], cell, path)


def read_mmcif(text: str, path: Path) -> list[Atoms]:
    """All models of an mmCIF file (PDBx), one conformer of each; see ``read_pdb``.

    Args:
        text: The file's text.
        path: Its name, for messages.

    Returns:
        One structure for each model, without a cell.

    Raises:
        DataError: A row cannot be read, or there are no atoms.
    """
    models: dict[str, list[Site]] = {}
    for number, row in _atom_rows(text, path):
        value = {key: next((row[name] for name in names if name in row), "") for key, names in _COLUMNS.items()}
        value = {key: "" if found in (".", "?") else found for key, found in value.items()}
        try:
            position = (float(row["cartn_x"]), float(row["cartn_y"]), float(row["cartn_z"]))
            occupancy = float(value["occupancy"] or 1.0)
            element = (
                symbol_of(value["element"]) if value["element"] else guess_element(value["name"], value["residue"])
            )
        except (ValueError, KeyError) as error:
            raise DataError(f"line {number} of {path} cannot be read: {error}") from error
        residue = (value["chain"], value["number"], value["insertion"])
        site = Site(residue, value["residue"], value["name"], value["location"], element, occupancy, position)
        models.setdefault(value["model"], []).append(site)
    return _structures(list(models.values()), None, path)


def is_mmcif(text: str) -> bool:
    r"""Whether a CIF file is an mmCIF file of the Protein Data Bank, with Cartesian coordinates.

    >>> is_mmcif("loop_\n_atom_site.Cartn_x"), is_mmcif("loop_\n_atom_site_fract_x")
    (True, False)
    """
    return "_atom_site.cartn_x" in text.lower()


def _structures(models: Sequence[Sequence[Site]], cell: Cell | None, path: Path) -> list[Atoms]:
    """Models as structures with one conformer each."""
    if not models:
        raise DataError(f"there are no atoms in {path}")
    structures = []
    for number, sites in enumerate(models):
        with locating(f"model {number} of {path}"):
            kept = without_clashing_letters(sites, choose_locations(sites))
        partial = [site for site in sites if not site.location and 0 < site.occupancy < FULL]
        if partial:
            logger.info(
                "model %d of %s: %d sites without a letter are occupied in part, the first %s of %s %s; they clash "
                "with nothing and are taken as whole atoms",
                *(number, path, len(partial), partial[0].name, partial[0].residue_name, "".join(partial[0].residue)),
            )
        if unseen := _unseen(sites):
            logger.warning(
                "model %d of %s: %d sites have the occupancy 0 (they were modeled, and not seen in the experiment): "
                "%s; they are taken as whole atoms",
                *(number, path, len(unseen), ", ".join(unseen[:3]) + " and others" * (len(unseen) > 3)),
            )
        if not kept.all():
            left_out = next(sites[index] for index in np.flatnonzero(~kept).tolist())
            logger.info(
                "model %d of %s: one alternate location is taken for each residue (the highest occupancy, then the "
                "first letter); %d sites are left out, the first %s %s of %s %s",
                *(number, path, int((~kept).sum()), left_out.name, left_out.location, left_out.residue_name),
                "".join(left_out.residue),
            )
        structures.append(_atoms([site for site, is_kept in zip(sites, kept, strict=True) if is_kept], cell))
    return structures


def _unseen(sites: Sequence[Site]) -> list[str]:
    """Names of sites without a letter and with occupancy 0; none if all are 0, as some programs write them."""
    if not any(site.occupancy for site in sites):
        return []
    unseen = [site for site in sites if not site.location and site.occupancy == 0]
    return [f"{site.name} of {site.residue_name} {''.join(site.residue)}" for site in unseen]


def _atoms(sites: Sequence[Site], cell: Cell | None) -> Atoms:
    """Sites of one conformer as atoms, with the arrays that ASE's reader gives, and the chain."""
    symbols = [HYDROGEN_ISOTOPES.get(site.element, (site.element, 0))[0] for site in sites]
    atoms = Atoms(symbols, positions=[site.position for site in sites], cell=cell, pbc=cell is not None)
    set_isotopes(atoms, [HYDROGEN_ISOTOPES.get(site.element, ("", 0))[1] for site in sites])
    # empty words become ".", as in mmCIF, because extxyz files cannot store an empty word
    atoms.set_array("residuenames", np.array([site.residue_name or "." for site in sites]))
    atoms.set_array("residuenumbers", np.array([_integer(site.residue[1]) for site in sites]))
    atoms.set_array("chainids", np.array([site.residue[0] or "." for site in sites]))
    atoms.set_array("atomtypes", np.array([site.name or "." for site in sites]))
    return atoms


def _integer(number: str) -> int:
    """The number of a residue; beyond 9999 some programs continue with letters or write stars."""
    digits = number.replace("*", "")
    try:
        return int(digits or 1)
    except ValueError:
        return int(digits, 36)


def _pdb_site(line: str) -> Site:
    """The site of one line of 80 columns."""
    position = (float(line[30:38]), float(line[38:46]), float(line[46:54]))
    if not np.isfinite(position).all():
        raise ValueError("the coordinates are not finite")
    name, residue_name = line[12:16].strip(), line[17:21].strip()
    element = symbol_of(line[76:78].strip()) if line[76:78].strip().isalpha() else ""
    element = element or guess_element(line[12:16].rstrip(), residue_name)
    residue = (line[21].strip(), line[22:26].strip(), line[26].strip())
    _integer(residue[1])
    occupancy = float(line[54:60]) if line[54:60].strip() else 1.0
    return Site(residue, residue_name, name, line[16].strip(), element, occupancy, position)


def _crystal(line: str, path: Path) -> Cell | None:
    """The cell of a CRYST1 record; None if it is a dummy, or the space group is not P 1."""
    numbers = [float(line[start:end]) for start, end in ((6, 15), (15, 24), (24, 33), (33, 40), (40, 47), (47, 54))]
    if min(numbers[:3]) <= 1.001:  # the dummy cell of structures without a crystal: 1 A, 90 degrees
        return None
    group = line[55:66].strip()
    if group.replace(" ", "") not in ("", "P1"):
        logger.warning(
            "%s holds the atoms of one asymmetric unit of a crystal with the space group %s: they are taken without "
            "cell and neighbors; for the crystal, give a file of its whole cell",
            *(path, group),
        )
        return None
    return Cell.new(numbers)


def _atom_rows(text: str, path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of the table ``_atom_site``, by the lower-case names of its columns."""
    names: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        word = line.strip()
        if word.lower().startswith("_atom_site."):
            names.append(word.split()[0].lower().removeprefix("_atom_site."))
        elif names and (not word or word.lower().startswith(("#", "loop_", "_", "data_"))):
            return
        elif names:
            values = [value[1:-1] if value[0] in "'\"" else value for value in _WORD.findall(line)]
            if len(values) != len(names):
                raise DataError(
                    f"line {number} of {path} has {len(values)} values for the {len(names)} columns of _atom_site"
                )
            yield number, dict(zip(names, values, strict=True))
