"""The driver of i-PI: energies, forces and virials of the beads that i-PI asks for together.

i-PI finds this class through a file of ``ik-e3nn export ipi``. The driver needs nothing of i-PI but its units, which
are not quite ASE's, so that energies and positions are those of i-PI's own files.
"""

import difflib
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ik_e3nn.data.labels.stale import without_labels
from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.graph import fields, settle_bonds
from ik_e3nn.optional import needed
from ik_e3nn.user_path import is_file
from ik_e3nn_calculators.calculator.model import prepare_model
from ik_e3nn_calculators.calculator.several import SeveralEvaluator
from ik_e3nn_calculators.systems.structures import load_structure

FloatArray = NDArray[np.float64]
Result = tuple[float, FloatArray, FloatArray, str]

_PARAMETERS = ("template", "model", "device", "dtype", "compile", "max_edges", "skin")
_FROM_IPI = ("verbose", "verbosity")


class IKDriver:
    """Energies, forces and virials of a learned potential for i-PI.

    i-PI gives positions and cells, in the order of the atoms in its own structure; all else comes from the template:
    elements, periodic directions, charge, spin, bonds and surface. If i-PI gives several structures at once (the
    element ``batch_size`` of ``ffdirect`` and ``ffsocket``), they are evaluated together.

    The virial is minus the derivative of the energy by the strain; for a model with surroundings, by strains along
    their free directions. A crystal face stays as it is in the template, so that its cell must stay the same.

    Args:
        template: Structure file, best extxyz; its last frame is used.
        model: Model file; "base" is the base model that comes with the package.
        device: ``auto`` (a GPU if available), ``cpu``, ``cuda``, ...
        dtype: ``float32`` or ``float64``.
        compile: Compile the model first, which takes a minute or two once.
        max_edges: Number of edges to process at once; limits the memory of large systems.
        skin: Extra radius of the neighbor lists in A.
        **others: i-PI's own ``verbose`` and ``verbosity``, which have no effect.

    Raises:
        ConfigError: A parameter is unknown or out of range.
        DataError: The template is no structure file, has constraints, or does not fit the model.
        ModelFileError: The model file is missing or broken.
        MissingDependencyError: i-PI is not installed.
    """

    def __init__(
        self,
        template: str,
        model: str = "base",
        *,
        device: str = "auto",
        dtype: str = "float64",
        compile: bool = False,  # noqa: A002  (torch's word for it)
        max_edges: int | None = None,
        skin: float = 0.5,
        **others: Any,
    ) -> None:
        unknown = sorted(set(others) - set(_FROM_IPI))
        if unknown:
            near = difflib.get_close_matches(unknown[0], _PARAMETERS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"parameters are {', '.join(_PARAMETERS)}"
            raise ConfigError(f"the driver ik_e3nn has no parameter {unknown[0]!r}; {hint}")
        self._units = needed("ipi.utils.units")
        self.template = _template(template)
        potential = prepare_model(model, device=device, dtype=dtype)
        self._several = SeveralEvaluator(potential, skin=skin, compile=compile, max_edges=max_edges)
        self._several.check(self.template)
        self._beads: list[Atoms] = []
        self._whole = bool(self.template.pbc.any())  # or checked to be whole

    def __call__(
        self, cell: FloatArray | Sequence[FloatArray], pos: FloatArray | Sequence[FloatArray]
    ) -> Result | list[Result]:
        """Evaluate one structure, or a list of structures together.

        Args:
            cell: Cell vectors as columns, (3, 3), in bohr, or a list of them.
            pos: Positions, (N, 3), in bohr, or a list of them.

        Returns:
            Energy in hartree, forces (N, 3) in hartree/bohr, virial (3, 3) in hartree and an empty text; or a list of
            these.

        Raises:
            DataError: The number of atoms differs from the template's, the cell has no volume, or the template is not
                periodic and i-PI wraps atoms.
            ExplosionError: Energy or forces are not finite.
        """
        if isinstance(cell, list | tuple):
            return self._evaluate(list(zip(cell, pos, strict=True)))
        return self._evaluate([(np.asarray(cell), np.asarray(pos))])[0]

    def _evaluate(self, structures: Sequence[tuple[FloatArray, FloatArray]]) -> list[Result]:
        while len(self._beads) < len(structures):
            self._beads.append(self.template.copy())
        beads = self._beads[: len(structures)]
        for atoms, (cell, positions) in zip(beads, structures, strict=True):
            self._move(atoms, cell, positions)
        outputs = self._several.evaluate(beads, stress=True)
        return [self._result(one, atoms.get_volume()) for one, atoms in zip(outputs, beads, strict=True)]

    def _move(self, atoms: Atoms, cell: FloatArray, positions: FloatArray) -> None:
        """Give a structure i-PI's positions and cell."""
        positions = np.reshape(positions, (-1, 3))
        if len(positions) != len(atoms):
            raise DataError(
                f"i-PI gives {len(positions)} atoms, but the template has {len(atoms)}; make the template of the same "
                "atoms in the same order as the structure of the simulation"
            )
        if not abs(np.linalg.det(cell)) > 0.0:
            raise DataError(f"the cell of i-PI has no volume: {np.transpose(cell).tolist()} bohr")
        atoms.positions[:] = self._units.unit_to_user("length", "angstrom", positions)
        atoms.cell[:] = self._units.unit_to_user("length", "angstrom", np.transpose(cell))
        if not self._whole:
            _check_whole(atoms, self.template)
            self._whole = True

    def _result(self, outputs: dict[str, FloatArray], volume: float) -> Result:
        """Predictions in i-PI's units."""
        convert = self._units.unit_to_internal
        virial = -outputs[fields.STRESS].reshape(3, 3) * volume
        return (
            float(convert("energy", "electronvolt", outputs[fields.ENERGY].item())),
            np.array(convert("force", "ev/ang", outputs[fields.FORCES])),
            np.array(convert("energy", "electronvolt", virial)),
            "",
        )


def _check_whole(atoms: Atoms, template: Atoms) -> None:
    """Refuse first positions that i-PI has wrapped into its cell, if the template is not periodic.

    Raises:
        DataError: Atoms are a cell vector farther from the first atom than in the template.
    """
    apart = (atoms.positions - atoms.positions[0]) - (template.positions - template.positions[0])
    torn = np.flatnonzero(np.rint(atoms.cell.scaled_positions(apart)).any(axis=1))
    if torn.size:
        raise DataError(
            f"i-PI has wrapped {torn.size} of {len(atoms)} atoms into its cell, the first: {torn[0]}, although the "
            'template is not periodic; write pbc="false" in <ffdirect> or <ffsocket>, or make the template periodic'
        )


def _template(path: str) -> Atoms:
    """The structure in a file, without what is not used.

    Raises:
        DataError: It is no structure file, or has constraints.
    """
    if not is_file(path):
        raise DataError(f"the template {path!r} is not a file; expected a structure file such as extxyz")
    atoms = load_structure(path)
    if atoms.constraints:
        raise DataError(
            f"the template {path} has constraints, which i-PI does not know of; name fixed atoms in <fixatoms> of "
            "i-PI's input, and write the template without constraints"
        )
    structure = without_labels(atoms)
    settle_bonds(structure)
    return structure
