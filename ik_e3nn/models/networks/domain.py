"""The domain of a model: what structures it was trained on, and whether others are outside of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ik_e3nn.graph import get_bonds
from ik_e3nn.graph.bonds.charges import CHARGE_KEY, SHARES
from ik_e3nn.graph.bonds.contacts import Contacts, contacts, known_number, open_shell
from ik_e3nn.graph.bonds.hydrogens import missing_hydrogens
from ik_e3nn.graph.parts import parts

_log = logging.getLogger(__name__)

BoolArray = NDArray[np.bool_]

MOST = 1000  # largest number of structures of a training set to analyze


@dataclass(frozen=True)
class Domain:
    """The structures on which a model was trained.

    Args:
        max_atoms: Number of atoms of the largest structure.
        periodic: Whether any structure was periodic.
        several: Whether any structure consisted of several molecules.
        charged_groups: Whether any structure had groups like ammonium or carboxylate, for any total charge.
        unpaired: Whether any structure had unpaired electrons, or atoms with too few bonds.

    Raises:
        TypeError: The values are not a whole number and truth values.

    Example:
        >>> from ase.build import bulk
        >>> small = Domain(max_atoms=20)
        >>> small.outside(bulk("Cu"))
        ['it is periodic']
    """

    max_atoms: int
    periodic: bool = False
    several: bool = False
    charged_groups: bool = False
    unpaired: bool = False

    def __post_init__(self) -> None:
        flags = (self.periodic, self.several, self.charged_groups, self.unpaired)
        if not isinstance(self.max_atoms, int) or not all(isinstance(flag, bool) for flag in flags):
            raise TypeError(f"trained_on must be a number of atoms and truth values; got {self!r}")

    def __str__(self) -> str:
        """The training data in words.

        Example:
            >>> print(Domain(max_atoms=20))
            single molecules of up to 20 atoms without charged groups and unpaired electrons
            >>> print(Domain(max_atoms=300, periodic=True))
            structures of up to 300 atoms, periodic ones among them
        """
        if self.periodic:
            return f"structures of up to {self.max_atoms} atoms, periodic ones among them"
        kind = "molecules and groups of molecules, each" if self.several else "single molecules"
        absent = [] if self.charged_groups else ["charged groups"]
        absent += [] if self.unpaired else ["unpaired electrons"]
        return f"{kind} of up to {self.max_atoms} atoms{' without ' * bool(absent)}{' and '.join(absent)}"

    def outside(self, atoms: Atoms) -> list[str]:
        """The respects in which a structure is outside of the domain, in words; empty if it is inside.

        Args:
            atoms: The structure.
        """
        if self.periodic:
            return []
        found = ["it is periodic"] if atoms.pbc.any() else []
        pairs = contacts(atoms)
        sizes = np.bincount(parts(pairs.first, pairs.second, len(atoms)))
        if len(sizes) > 1 and not self.several:
            found.append(f"it is {len(sizes)} separate molecules or atoms")
        size = int(sizes.max(initial=0))
        if size > self.max_atoms:
            found.append(f"it has a molecule of {size} atoms, and the model was trained on at most {self.max_atoms}")
        if charged_groups(atoms, pairs):  # an odd number of electrons is no further reason then
            found += [] if self.charged_groups else ["it has charged groups (it is a zwitterion, a salt or an ion)"]
        elif not self.unpaired and (reason := unpaired_electrons(atoms, pairs)):
            found.append(reason)
        return found

    def joined(self, other: Domain | None) -> Domain:
        """The domain of both training sets together; this domain if the other is unknown.

        Example:
            >>> Domain(3).joined(Domain(2, periodic=True))
            Domain(max_atoms=3, periodic=True, several=False, charged_groups=False, unpaired=False)
        """
        if other is None:
            return self
        return Domain(*(max(pair) for pair in zip(astuple(self), astuple(other), strict=True)))


def domain_of(structures: Sequence[Atoms]) -> Domain:
    """The domain of a training set; for large sets, only some structures are analyzed.

    Args:
        structures: The structures.

    Example:
        >>> from ase.build import molecule
        >>> domain_of([molecule("H2O"), molecule("CH4")])
        Domain(max_atoms=5, periodic=False, several=False, charged_groups=False, unpaired=False)
    """
    size, periodic = max((len(a) for a in structures), default=0), any(a.pbc.any() for a in structures)
    several = charged = unpaired = False
    for atoms in structures[:: max(1, len(structures) // MOST)]:
        pairs = contacts(atoms)
        several = several or bool(parts(pairs.first, pairs.second, len(atoms)).any())
        has_charges = charged_groups(atoms, pairs)
        charged = charged or has_charges
        unpaired = unpaired or (not has_charges and bool(unpaired_electrons(atoms, pairs)))
    return Domain(size, bool(periodic), several, charged, unpaired)


def domain_of_model(model: object) -> Domain | None:
    """The domain of a model, or of the first member of a committee; None if it is unknown."""
    first = next(iter(getattr(model, "members", None) or [model]))
    domain = getattr(first, "trained_on", None)
    return domain if isinstance(domain, Domain) else None


def warn_of_structures(domain: Domain | None, structures: Sequence[Atoms], what: str = "structures") -> None:
    """Warn if structures are outside of the domain of a model.

    Args:
        domain: Domain of the model; None if it is unknown.
        structures: The structures.
        what: Name of the structures in the message.
    """
    every = [] if domain is None else [domain.outside(atoms) for atoms in structures]
    found = [number for number, reasons in enumerate(every) if reasons]
    if found:
        _log.warning(
            "%d of %d %s are unlike those that the model was trained on; of the first (number %d, counted from 0): %s",
            *(len(found), len(structures), what, found[0], "; ".join(every[found[0]])),
        )


def unpaired_electrons(atoms: Atoms, pairs: Contacts) -> str:
    """The reason why a molecule must have unpaired electrons or lack hydrogens, in words; "" if there is none.

    Args:
        atoms: The structure.
        pairs: Its contacts.
    """
    if (reason := open_shell(atoms, pairs)) or atoms.pbc.any() or SHARES in atoms.arrays:
        return reason
    return missing_hydrogens(atoms)


def charged_groups(atoms: Atoms, pairs: Contacts) -> bool:
    """Whether a molecule has charges that no neighbor compensates, as in ammonium or carboxylate.

    A total charge is sufficient. If formal charges are known, they are used; adjacent opposite charges, as in nitro
    groups, do not count. Otherwise nitrogen with four neighbors, oxygen with three neighbors H or C, and carbon with
    two terminal oxygens and one other neighbor count as charged groups.

    Args:
        atoms: The structure.
        pairs: Its contacts.
    """
    if known_number(atoms, CHARGE_KEY):
        return True
    number = len(atoms)
    shares = atoms.arrays.get(SHARES)
    if shares is not None:
        bonds = get_bonds(atoms)[:, :2]
        total = shares[:, 0].astype(float)
        np.add.at(total, bonds.ravel(), shares[bonds[:, ::-1].ravel(), 0])
        return bool((total[shares[:, 0] != 0] != 0).any())
    count, sure, close = (np.bincount(pairs.first[kept], minlength=number) for kept in _kinds(atoms, pairs))
    bare = (atoms.numbers == 8) & (count == 1)
    oxygens = np.bincount(pairs.first[bare[pairs.second]], minlength=number)
    ammonium = (atoms.numbers == 7) & (sure == 4) & (oxygens == 0)
    oxonium = (atoms.numbers == 8) & (close == 3)
    carboxylate = (atoms.numbers == 6) & (count == 3) & (oxygens == 2)
    return bool(ammonium.any() or oxonium.any() or carboxylate.any())


def _kinds(atoms: Atoms, pairs: Contacts) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Masks of all contacts, of certain bonds, and of certain bonds to hydrogen or carbon, (n,) each."""
    return np.ones(len(pairs.sure), dtype=bool), pairs.sure, pairs.sure & np.isin(atoms.numbers[pairs.second], (1, 6))
