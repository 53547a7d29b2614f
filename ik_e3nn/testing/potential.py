"""One call that measures all properties that a potential must have."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from ase import Atoms

from ik_e3nn.graph import surface_vectors
from ik_e3nn.models.networks.interface import PotentialFunction
from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.testing import calls, differences, invariances
from ik_e3nn.testing.report import PotentialReport, PropertyResult
from ik_e3nn.testing.subject import Subject, evaluation_mode

PROPERTIES: Final[dict[str, Callable[[Subject], list[PropertyResult]]]] = {
    "equivariance": invariances.equivariance,
    "permutation": invariances.permutation,
    "translation": invariances.translation,
    "lattice translation": invariances.lattice_translation,
    "batch": invariances.batching,
    "repeatable": invariances.repetition,
    "extensivity": invariances.extensivity,
    "sums": invariances.sums,
    "cutoff": differences.smoothness_at_cutoff,
    "forces": differences.forces_by_differences,
    "stress": differences.stress_by_differences,
    "inputs": calls.inputs_untouched,
    "not zero": calls.not_all_zero,
}


def check_potential(
    model: PotentialFunction,
    structures: Sequence[Atoms],
    *,
    group: SymmetryGroup | str | None = None,
    r_max: float | None = None,
    properties: Iterable[str] | None = None,
    seed: int = 0,
) -> PotentialReport:
    """Measure the properties that physics demands of a potential, on given structures.

    They are equivariance of energy, forces and stress; independence of the order of atoms, of their position in space,
    of the periodic images that are given and of the other structures in a batch; extensivity; smoothness at the cutoff;
    forces and stress by finite differences; unchanged inputs, repeatable calls, and forces that are not all zero.

    Args:
        model: A potential, see ``ik_e3nn.models.Potential``. Only its call is needed: ``model(graph, forces=True,
            stress=True)`` returns ``energy``, ``energies``, ``forces`` and ``stress``. It is put into evaluation mode
            during the checks.
        structures: Molecules, crystals or slabs of elements that it knows.
        group: Symmetry group of the energy; ``model.group`` if absent, else O(3).
        r_max: Cutoff (A); ``model.r_max`` if absent.
        properties: Names in ``PROPERTIES`` of the properties to measure; all if absent.
        seed: Seed of all random numbers.

    Returns:
        One row for each property; see ``passed`` and ``failures``, or print it.

    Raises:
        ValueError: A property is unknown, there are no structures or no cutoff, or structures define their own surface.

    Example:
        >>> from ase.build import molecule
        >>> from ik_e3nn.models import InteratomicPotential
        >>> model = InteratomicPotential(["H", "O"], num_channels=2, num_layers=1).double()
        >>> report = check_potential(model, [molecule("H2O")], properties=["equivariance", "forces"])
        >>> report.passed, len(report.rows)
        (True, 4)
    """
    names = list(PROPERTIES) if properties is None else list(properties)
    unknown = [name for name in names if name not in PROPERTIES]
    if unknown:
        raise ValueError(f"unknown properties {unknown}: expected some of {list(PROPERTIES)}")
    if not len(structures):
        raise ValueError("a potential is checked on structures: give at least one")
    cutoff = getattr(model, "r_max", None) if r_max is None else r_max
    if cutoff is None:
        raise ValueError(f"{type(model).__name__} has no attribute r_max: give the cutoff as r_max=")
    if getattr(model, "surroundings", None) is not None and any(surface_vectors(atoms) for atoms in structures):
        raise ValueError(
            "a surface is checked at its default position: remove surface_normal and similar keys from info"
        )
    symmetry = SymmetryGroup.from_config(getattr(model, "group", "O3") if group is None else group)
    with evaluation_mode(model):
        subject = Subject(model, list(structures), float(cutoff), symmetry, seed)
        return PotentialReport(tuple(row for name in names for row in PROPERTIES[name](subject)))


def assert_potential(model: PotentialFunction, structures: Sequence[Atoms], **options: object) -> PotentialReport:
    """Raise an error unless a potential passes ``check_potential``.

    Args:
        model: The potential.
        structures: Structures to check it on.
        **options: See ``check_potential``.

    Returns:
        The report.

    Raises:
        AssertionError: A property is not within its tolerance; the message is the report's table.

    Example:
        >>> from ase.build import molecule
        >>> from ik_e3nn.models import InteratomicPotential
        >>> model = InteratomicPotential(["H", "O"], num_channels=2, num_layers=1)
        >>> assert_potential(model, [molecule("H2O")], properties=["permutation"]).passed
        True
    """
    report = check_potential(model, structures, **options)  # type: ignore[arg-type]
    if not report.passed:
        failed = ", ".join(row.name for row in report.failures)
        raise AssertionError(f"the potential fails: {failed}\n{report}")
    return report
