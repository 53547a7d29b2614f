"""Properties that a joint model predicts besides energies, under ASE's names and in ASE's units if ASE has them."""

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ase import units
from ase.calculators.calculator import all_properties
from numpy.typing import NDArray
from torch import Tensor

from ik_e3nn.models import Ensemble, MolecularPropertyModel
from ik_e3nn.models.uncertainty.ensemble import STD
from ik_e3nn.targets import Dipole, Target

_log = logging.getLogger(__name__)

DIPOLE = "dipole"
# Factors to ASE's units, by ASE's name and by unit, in lower case without spaces and multiplication signs.
_FACTORS: dict[str, dict[str, float]] = {
    DIPOLE: {
        "ea": 1.0, "eang": 1.0, "d": units.Debye, "debye": units.Debye, "ea0": units.Bohr, "ebohr": units.Bohr,
        "au": units.Bohr, "a.u.": units.Bohr,
    },
    "charges": {"e": 1.0},
}  # fmt: skip


class JointProperties:
    """The properties of a joint model that a calculator offers.

    Every property has its own name and unit, unless its name is one of ASE's; a dipole is also ASE's ``dipole`` in e A.
    A property that cannot be converted to ASE's unit is not offered under ASE's name; a warning reports this once. If
    the model has standard deviations, each is offered as ``NAME_std``, in the unit of ``NAME``.

    Args:
        model: The model, or the models with their standard deviations, ready for prediction.

    Example:
        >>> model = MolecularPropertyModel(["H"], [Dipole("mu", "D")], edges="radius", potential={"num_channels": 2})
        >>> sorted(JointProperties(model).offered)
        ['dipole', 'mu']
    """

    def __init__(self, model: MolecularPropertyModel | Ensemble) -> None:
        self.model = model
        self.offered: dict[str, tuple[Target, float]] = {}
        properties = [target for target in model.targets if target.field is None]
        dipoles = [target for target in properties if isinstance(target, Dipole)]
        for target in properties:
            if target.name in all_properties:
                self._offer(target.name, [target] if target.name != DIPOLE or target in dipoles else [])
            else:
                self.offered[target.name] = (target, 1.0)
        if dipoles and DIPOLE not in {target.name for target in properties}:
            self._offer(DIPOLE, dipoles)
        if isinstance(model, Ensemble):
            self.offered |= {name + STD: found for name, found in self.offered.items()}

    def _offer(self, name: str, targets: Sequence[Target]) -> None:
        """Offer a target under a name of ASE's, if it can be converted to ASE's unit."""
        known = _FACTORS.get(name, {})
        factors = [known.get(one.unit.replace("*", "").replace(" ", "").lower()) for one in targets]
        if len(factors) == 1 and factors[0] is not None:
            self.offered[name] = (targets[0], factors[0])
            return
        found = ", ".join(f"{one.name!r} in {one.unit or 'no unit'}" for one in targets) or "another kind of quantity"
        _log.warning(
            "ASE's %r is not offered: the model has %s; expected one target with one of the units %s",
            name, found, ", ".join(known) or "(none is known)",
        )  # fmt: skip

    def results(self, graph: Mapping[str, Tensor], names: Collection[str]) -> dict[str, float | NDArray[np.float64]]:
        """Predict some of the offered properties for one structure.

        Args:
            graph: The graph of the structure.
            names: Some of the names in ``offered``.
        """
        deviations = {name for name in names if name.endswith(STD) and name.removesuffix(STD) in self.offered}
        options = {"std": bool(deviations)} if isinstance(self.model, Ensemble) else {}
        with torch.no_grad():
            outputs = self.model(graph, forces=False, **options)
        found: dict[str, Any] = {}
        for name in names:
            target, factor = self.offered[name]
            value = factor * outputs[target.name + STD * (name in deviations)].to("cpu", torch.float64).numpy()
            found[name] = value if target.per_atom else value[0] if target.shape else float(value[0])
        return found
