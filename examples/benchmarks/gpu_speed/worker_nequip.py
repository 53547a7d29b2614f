"""Time NequIP, untrained, with the size of its tutorial: 4 layers, 32 features of l <= 1."""

from collections.abc import Callable
from typing import Any

from ase import Atoms
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
from nequip.integrations.ase import NequIPCalculator
from nequip.model import NequIPGNNModel
from nequip.utils.global_state import set_global_state

from gpu_speed.worker import Job, main, measure

R_MAX = 5.0


def run(job: Job) -> dict[str, Any]:
    """The result of a job."""
    set_global_state()
    model = NequIPGNNModel(
        seed=0, model_dtype="float32", r_max=R_MAX, type_names=["Si"], num_layers=4, l_max=1, parity=False,
        num_features=32, radial_mlp_depth=2, radial_mlp_width=64, num_bessels=8, avg_num_neighbors=28.0,
        per_type_energy_scales=1e-3, per_type_energy_shifts=0.0,
    )  # fmt: skip
    transforms = [ChemicalSpeciesToAtomTypeMapper(["Si"]), NeighborListTransform(R_MAX)]
    calculator = NequIPCalculator(model.eval(), device=job["device"], transforms=transforms)

    def call(atoms: Atoms) -> Callable[[], Any]:
        data = calculator.atoms_to_data(atoms)
        return lambda: calculator.model(dict(data))

    found = measure(job, calculator, call)
    return found | {"parameters": sum(parameter.numel() for parameter in model.parameters()), "form": "eager"}


if __name__ == "__main__":
    main(run)
