"""A new predicted quantity in one file: charges of atoms that sum to the charge of their molecule.

    python examples/11_new_target.py

A target is a class that defines what a value is. Reading, references, losses, errors, plots, training, fine-tuning,
calibration and model files work for it as for the targets of the library. A model file names the kind, so the module
with the class must be imported before the file is read.
"""

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.io import write
from e3nn import o3
from numpy.typing import NDArray
from torch import Tensor

from ik_e3nn import train
from ik_e3nn.graph import fields
from ik_e3nn.nn import ScalarMLP
from ik_e3nn.targets import Target
from ik_e3nn.targets.head import Atomwise, Head, Molecules, quiet
from ik_e3nn.training import DataConfig, RunConfig, TrainConfig


class ChargeHead(Head):
    """A number for every atom: an MLP of its invariants."""

    def __init__(self, irreps_in: o3.Irreps, hidden: int, count: int) -> None:
        super().__init__(irreps_in, hidden, count)
        self.mlp = quiet(ScalarMLP([hidden, hidden, count]))

    def forward(self, atoms: Atomwise, molecules: Molecules) -> Tensor:
        """See the base class."""
        return self.mlp(atoms.scalars)


class AtomicCharges(Target):
    """Charges of atoms in e, which sum to the total charge of each structure."""

    kind = "atomic_charges"
    per_atom = True
    reference = frozenset({"per_atom"})  # every element has a mean charge; the head predicts the rest
    needs = frozenset({fields.TOTAL_CHARGE})
    head = ChargeHead

    def constrained(self, values: Tensor, molecules: Molecules) -> Tensor:
        """Subtract the excess of the sum equally from all atoms."""
        excess = (molecules.sum(values) - molecules.charges.to(values.dtype)) / molecules.sizes
        return values - excess.index_select(0, molecules.batch)

    def fault(self, value: NDArray[np.float64], atoms: Atoms) -> str:
        """Refuse charges that do not sum to the total charge."""
        total, stated = value.sum(), atoms.info.get("charge", 0)
        return f"must sum to the total charge {stated:g}, but sums to {total:.4g}" if abs(total - stated) > 0.01 else ""


def main() -> None:
    """Train on charges that follow from the distances between atoms."""
    rng, structures = np.random.default_rng(0), []
    for name in ("H2O", "CH3OH", "H2CO", "CH4", "CO2") * 8:
        atoms = molecule(name)
        atoms.rattle(0.05, rng=rng)
        charges = 0.3 * (1.0 / (atoms.get_all_distances() + np.eye(len(atoms)))).sum(1) * (6.0 - atoms.numbers)
        atoms.arrays["q"] = charges - charges.mean()
        atoms.info["charge"] = 0
        structures.append(atoms)
    write("charges.xyz", structures, format="extxyz")
    data = DataConfig("charges.xyz", targets={"q": "atomic_charges e"})
    model = {"edges": "radius", "potential": {"num_channels": 8}}
    print(train(TrainConfig(data, model, run=RunConfig("charges", max_epochs=20, overwrite=True))).metrics["valid"])


if __name__ == "__main__":
    main()
