"""The spin multiplicity of a molecule, which its entropy depends on."""

from ase import Atoms
from ase.data import ground_state_magnetic_moments

from ik_e3nn.errors import DataError
from ik_e3nn.graph import stated_number
from ik_e3nn.graph.bonds.contacts import contacts, odd_electrons, open_shell


def multiplicity(atoms: Atoms) -> tuple[int, str]:
    """The multiplicity 2S+1 from ``atoms.info["spin"]``; otherwise that of the atom, or the lowest possible one.

    Args:
        atoms: A molecule or an atom, with its charge in ``atoms.info["charge"]``.

    Returns:
        The multiplicity; and a warning if it is a guess for unpaired electrons, otherwise "".

    Raises:
        DataError: The multiplicity that is given is not possible for this number of electrons.

    Example:
        >>> multiplicity(Atoms("O2", info={"spin": 3})), multiplicity(Atoms("O2"))
        ((3, ''), (1, ''))
    """
    charge, spin = stated_number(atoms, "charge") or 0.0, stated_number(atoms, "spin")
    electrons = int(atoms.numbers.sum()) - round(charge)
    if spin is not None:
        if spin < 1 or (spin + electrons) % 2 != 1:
            kind = "even" if electrons % 2 else "odd"
            raise DataError(
                f'atoms.info["spin"] is {spin:g}, but {electrons} electrons have an {kind} multiplicity, 2S+1; set the '
                "spin, or the charge of an ion"
            )
        return int(spin), ""
    value, reason = 1 + electrons % 2, open_shell(atoms, contacts(atoms))
    if len(atoms) == 1:
        if not charge:
            value = 1 + round(ground_state_magnetic_moments[atoms.numbers[0]])
        reason = odd_electrons(charge, 1, atoms.numbers) or ("it is an open-shell atom" if value > 1 else "")
    if not reason:
        return value, ""
    return value, f'the structure has no atoms.info["spin"], and {reason}; the entropy has the multiplicity {value}'
