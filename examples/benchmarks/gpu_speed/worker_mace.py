"""Time MACE, untrained, with the size of its README: 128x0e + 128x1o, two interactions, correlation 3."""

from collections.abc import Callable
from typing import Any

import mace.modules
import mace.tools
import numpy as np
import torch
from ase import Atoms
from e3nn import o3
from mace.calculators import MACECalculator

from gpu_speed.worker import Job, main, measure

R_MAX = 5.0
NEIGHBORS = 28.0  # of silicon within the cutoff


def run(job: Job) -> dict[str, Any]:
    """The result of a job."""
    blocks = mace.modules.interaction_classes
    with mace.tools.torch_tools.default_dtype("float32"):
        model = mace.modules.ScaleShiftMACE(
            r_max=R_MAX, num_bessel=8, num_polynomial_cutoff=5, max_ell=3, num_interactions=2, num_elements=1,
            interaction_cls_first=blocks["RealAgnosticResidualInteractionBlock"],
            interaction_cls=blocks["RealAgnosticResidualInteractionBlock"], hidden_irreps=o3.Irreps("128x0e + 128x1o"),
            MLP_irreps=o3.Irreps("16x0e"), gate=torch.nn.functional.silu, atomic_energies=np.zeros(1),
            avg_num_neighbors=NEIGHBORS, atomic_numbers=[14], correlation=3, radial_type="bessel",
            radial_MLP=[64, 64, 64], atomic_inter_scale=1e-3, atomic_inter_shift=0.0,
        )  # fmt: skip
    options: dict[str, Any] = {"enable_cueq": True} if job["compile"] and _has_cuequivariance() else {}
    calculator = MACECalculator(models=[model], device=job["device"], default_dtype="float32", **options)

    def call(atoms: Atoms) -> Callable[[], Any]:
        batch = calculator._atoms_to_batch(atoms)
        return lambda: calculator.models[0](calculator._clone_batch(batch).to_dict(), compute_stress=False)

    found = measure(job, calculator, call)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return found | {"parameters": parameters, "form": "cuequivariance" if options else "eager"}


def _has_cuequivariance() -> bool:
    try:
        import cuequivariance_torch  # noqa: F401
    except ImportError:
        return False
    return True


if __name__ == "__main__":
    main(run)
