"""The compared models, with every setting that differs from the default of its package.

MACE: the README's command (``--ema --ema_decay=0.99 --amsgrad --stage_two``, r_max), with 64x0e channels and
correlation 3 in place of its 128x0e + 128x1o, which would make a fifth of the steps in minutes on a CPU (``mace-L1`` is
between), and the defaults of ``mace_run_train`` 0.3.16 (loss weights 1/100, in stage two 1000/100 and lr 0.001, stress
1 and 10; lr 0.01, ReduceLROnPlateau, weight decay 5e-7). Stage two takes the last quarter, its default share; it starts
by the clock.
NequIP: ``configs/tutorial.yaml`` of 0.19 without early stopping (so that it trains for the whole time), without ZBL,
and with what its comments and documentation advise: parity off for speed, E0s per species. Training is compiled as in
the tutorial; the documentation warns of that on CPUs, but with torch 2.13 it gave the learning curve of the eager run
at twice its speed. Five workers load data, as in the tutorial: none and one gave 19-20 thousand edges/s, five 23.
``nequip-cosine`` differs in the schedule alone: the tutorial's lowers the learning rate whenever six epochs bring less
than 20 %, which is long before the end; here it falls with the clock, as ours does. MACE has no such schedule; its lr
falls to a tenth in stage two, by the clock.
Ours: the defaults of ``ik-e3nn train`` (``ablation.md`` is where they come from) but for compiled training, batch sizes
and, for silicon, loss weights of forces and stress that were set once by hand.
"""

from dataclasses import dataclass, field
from typing import Any

Settings = dict[str, Any]

# Structures per step. MACE's README trains with 10, NequIP's tutorial with 5; both projects advise fewer for few or
# large structures, and in a fixed time smaller batches are more steps.
BATCH = {"acac": 5, "aspirin": 5, "silicon": 2, "ecemc": 2}  # NequIP's compiled training needs two
# Both validate with 10; large batches of boxes are slower on a CPU and need gigabytes of memory.
VALID_BATCH = {"acac": 10, "aspirin": 10, "silicon": 5, "ecemc": 2}


@dataclass(frozen=True)
class Model:
    """A row of the comparison.

    Args:
        package: "ours", "mace" or "nequip": which worker trains it.
        settings: Settings for all sets.
        by_set: Settings that differ for some sets.
    """

    package: str
    settings: Settings
    by_set: dict[str, Settings] = field(default_factory=dict)


def settings_of(model: str, data_set: str, *, eager: bool = False) -> Settings:
    """All settings of a model on a set; ``eager`` trains without compiling."""
    chosen = MODELS[model]
    batches = {"batch_size": BATCH[data_set], "valid_batch_size": VALID_BATCH[data_set]}
    if chosen.package == "ours":  # validates with the training batch size
        del batches["valid_batch_size"]
    settings = _merged(chosen.settings | batches, chosen.by_set.get(data_set, {}))
    return _merged(settings, EAGER[chosen.package]) if eager else settings


def _merged(base: Settings, changes: Settings) -> Settings:
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


OURS: Settings = {"model.r_max": 5.0, "run.compile": True, "run.seed": 0}
OURS_BY_SET: dict[str, Settings] = {
    "silicon": {"loss.forces_weight": 10.0, "loss.stress_weight": 100.0},
}

MACE: Settings = {
    "model": "MACE",
    "num_interactions": 2,
    "hidden_irreps": "64x0e",
    "correlation": 3,
    "max_ell": 3,
    "r_max": 5.0,
    "energy_weight": 1.0,
    "forces_weight": 100.0,
    "lr": 0.01,
    "weight_decay": 5e-7,
    "scheduler": "ReduceLROnPlateau",
    "amsgrad": True,
    "ema": True,
    "ema_decay": 0.99,
    "clip_grad": 10.0,
    "stage_two": True,
    "stage_two_energy_weight": 1000.0,
    "stage_two_forces_weight": 100.0,
    "stage_two_lr": 0.001,
    "default_dtype": "float32",
    "seed": 123,
}
MACE_BY_SET: dict[str, Settings] = {
    "silicon": {"loss": "stress", "compute_stress": True, "stress_weight": 1.0, "stage_two_stress_weight": 10.0},
}

NEQUIP: Settings = {
    "model": {
        "_target_": "nequip.model.NequIPGNNModel",
        "compile_mode": "compile",
        "seed": 456,
        "model_dtype": "float32",
        "r_max": 5.0,
        "num_bessels": 8,
        "bessel_trainable": False,
        "polynomial_cutoff_p": 6,
        "num_layers": 4,
        "l_max": 1,
        "parity": False,
        "num_features": 32,
        "radial_mlp_depth": 2,
        "radial_mlp_width": 64,
        "avg_num_neighbors": "${training_data_stats:num_neighbors_mean}",
        "per_type_energy_scales": "${training_data_stats:per_type_forces_rms}",
        "per_type_energy_scales_trainable": False,
        "per_type_energy_shifts_trainable": False,
    },
    "loss": {
        "_target_": "nequip.train.EnergyForceLoss",
        "per_atom_energy": True,
        "coeffs": {"total_energy": 1.0, "forces": 1.0},
    },
    "val_metrics": {
        "_target_": "nequip.train.EnergyForceMetrics",
        "coeffs": {"total_energy_mae": 1.0, "forces_mae": 1.0},
    },
    "ema_decay": 0.999,
    "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.01},
    "scheduler": {
        "_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau",
        "factor": 0.6,
        "patience": 5,
        "threshold": 0.2,
        "min_lr": 1e-6,
    },
}
NEQUIP_BY_SET: dict[str, Settings] = {
    "silicon": {
        "loss": {"_target_": "nequip.train.EnergyForceStressLoss", "coeffs": {"stress": 1.0}},
        "val_metrics": {"_target_": "nequip.train.EnergyForceStressMetrics", "coeffs": {"stress_mae": 1.0}},
    },
}

EAGER: dict[str, Settings] = {
    "ours": {"run.compile": False},
    "mace": {},
    "nequip": {"model": {"compile_mode": "eager"}},
}

MODELS = {
    "ours-small": Model("ours", OURS | {"model.preset": "small"}, OURS_BY_SET),
    "ours-medium": Model("ours", OURS | {"model.preset": "medium"}, OURS_BY_SET),
    "ours-large": Model("ours", OURS | {"model.preset": "large"}, OURS_BY_SET),
    "mace": Model("mace", MACE, MACE_BY_SET),
    "mace-L1": Model("mace", MACE | {"hidden_irreps": "64x0e + 64x1o"}, MACE_BY_SET),
    "nequip": Model("nequip", NEQUIP, NEQUIP_BY_SET),
    "nequip-cosine": Model("nequip", NEQUIP | {"scheduler": "cosine of the clock, to 1 %"}, NEQUIP_BY_SET),
}
DEFAULT_MODELS = ("ours-small", "ours-medium", "ours-large", "mace", "nequip", "nequip-cosine")
