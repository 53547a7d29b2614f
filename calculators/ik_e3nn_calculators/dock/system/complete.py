"""Checks that molecules and hosts have all their atoms, and that a model knows their elements."""

import logging
from collections.abc import Collection, Iterable

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ik_e3nn.elements import symbols_of, unknown_symbols
from ik_e3nn.errors import DataError, UnknownSpeciesError
from ik_e3nn.graph.bonds.hydrogens import atoms_without_hydrogens
from ik_e3nn_calculators.dock.system.host import Host

_log = logging.getLogger(__name__)

FEW = 0.1  # share of the atoms that may lack hydrogens, as in side chains that were not resolved
NAMED = 3  # examples in a message
FOR_HOSTS = (
    "a protein with PDBFixer (`pdbfixer in.pdb --add-atoms=all --ph=7.4 --output=out.pdb`) or `reduce -build`, another "
    "host with Open Babel (`obabel in.pdb -O out.pdb -h`)"
)


def check_host_hydrogens(host: Host) -> None:
    """Refuse a host that lacks hydrogens, even if it has polar ones.

    Raises:
        DataError: Too many atoms lack hydrogens; the message gives their number and ways to add them.
    """
    atoms, lacking = host.atoms, host.lacking
    if not len(lacking):
        return
    carbon = int((atoms.numbers == 6).sum())
    others = int((atoms.numbers[lacking] != 6).sum())
    figures = (
        f"{len(lacking)} of its {carbon + others} {'atoms of C, N and O that need them' if others else 'carbon atoms'} "
        f"lack their hydrogens ({named(atoms, lacking)}), and {int((atoms.numbers == 1).sum())} of its {len(atoms)} "
        "atoms are hydrogen"
    )
    if len(lacking) >= FEW * (carbon + others):
        raise DataError(
            f"the part of {host.name} within reach of the region is not complete: {figures}. Energies need every "
            f"hydrogen, not only polar ones; add them first: {FOR_HOSTS}"
        )
    _log.warning("%s seems to lack atoms: %s; add them first: %s", host.name, figures, FOR_HOSTS)


def check_ligand_hydrogens(atoms: Atoms, source: str) -> None:
    """Refuse a molecule from a file of positions that lacks hydrogens.

    Raises:
        DataError: An atom lacks its hydrogens.
    """
    lacking = atoms_without_hydrogens(atoms)
    if len(lacking):
        raise without_hydrogens(source, f"{len(lacking)} of {len(atoms)} atoms lack them ({named(atoms, lacking)})")


def check_elements(
    species: Collection[int], ligand: NDArray[np.int64], host: Host, distances: NDArray[np.float64]
) -> None:
    """Refuse elements that a model does not know.

    Args:
        species: Atomic numbers that the model knows.
        ligand: Atomic numbers of the molecule, (N,).
        host: The part of the host within reach.
        distances: Distances of its atoms from the region where the molecule may begin, (n,), in A.

    Raises:
        UnknownSpeciesError: The model does not know an element; for a host, the message names the nearest such atoms.
    """
    known, unknown = symbols_of(species), unknown_symbols(ligand, [*species])
    if unknown:
        raise UnknownSpeciesError(f"the model knows {known}; it cannot dock with {unknown} in the ligand")
    strange = np.flatnonzero(~np.isin(host.atoms.numbers, list(species)))
    if not len(strange):
        return
    strange = strange[np.argsort(distances[strange], kind="stable")]
    where = "" if host.atoms.pbc.any() else f", {distances[strange[0]]:.1f} A or more from the region"
    raise UnknownSpeciesError(
        f"the model knows {known}; it cannot dock with {unknown_symbols(host.atoms.numbers, [*species])} "
        f"in the host ({named(host.atoms, strange)}{where}): use a model that knows them, or, if these atoms do "
        "not matter, remove them from the file or make pocket smaller"
    )


def without_hydrogens(source: str, figures: str) -> DataError:
    """The error for a molecule without its hydrogens."""
    return DataError(
        f"{source} lacks hydrogens: {figures}. Energies need every atom; add them first, in the intended "
        "protonation state, with RDKit's Chem.AddHs(molecule, addCoords=True) or `obabel in.sdf -O out.sdf -h`, or "
        "give a SMILES string"
    )


def named(atoms: Atoms, indices: Iterable[int]) -> str:
    """Names of the first few atoms, with their residues if the file has them.

    Example:
        >>> named(Atoms("CO"), [1])
        'O 1'
    """
    listed = [_label(atoms, int(index)) for index in indices]
    return ", ".join(listed[:NAMED]) + ", ..." * (len(listed) > NAMED)


def _label(atoms: Atoms, index: int) -> str:
    if not {"residuenames", "residuenumbers", "atomtypes"} <= atoms.arrays.keys():
        return f"{atoms.symbols[index]} {index}"
    name, residue = (str(atoms.arrays[key][index]).strip() for key in ("atomtypes", "residuenames"))
    chain = str(atoms.arrays["chainids"][index]) + " " if "chainids" in atoms.arrays else ""
    return f"{name} of {residue} {chain.removeprefix('. ')}{atoms.arrays['residuenumbers'][index]}"
