"""The settings that dynamics and relaxations share."""

from dataclasses import KW_ONLY, dataclass
from typing import Literal

from ik_e3nn.settings import Count, Seed, check_settings


@dataclass(frozen=True)
class RunSettings:
    """The structure and the model of a run, and its output.

    Args:
        structure: Structure file (its last frame, unless ``frame`` is given) or SMILES string.
        model: Model file; "base" is the base model that comes with the package, for small molecules.
        frame: Which frame of the structure file, counted from 0, or from its end if negative; None is the last.
        seed: Seed of the conformer of a SMILES string, and of all random numbers of the run.
        output: Folder for everything that is written.
        trajectory: Format of the trajectory: ``extxyz`` or ASE's ``traj``.
        overwrite: Replace the run in ``output``.
        device: ``auto`` (a GPU if available), ``cpu``, ``cuda``, or one of several GPUs, such as ``cuda:1``.
        dtype: ``float32`` or ``float64``; None keeps the model's.
        compile: Compile the model, which takes a minute or two once for each architecture; then small systems are about
            four times as fast and large ones 1.5 times. ``auto`` compiles beside the run if the run is long enough, and
            then switches; ``true`` compiles first; ``false`` does not.
        max_edges: Number of edges to process at once; limits the memory of large systems and takes a third more time.
        skip_fixed: Leave out fixed atoms that are too far from the moving ones to matter; for large substrates.
        progress: Show a progress bar.
        plots: Draw how the run went.

    Raises:
        ConfigError: A setting is out of range.
    """

    structure: str
    model: str = "base"
    _: KW_ONLY
    frame: int | None = None
    seed: Seed = 0
    output: str = "run"
    trajectory: Literal["extxyz", "traj"] = "extxyz"
    overwrite: bool = False
    device: str = "auto"
    dtype: Literal["float32", "float64"] | None = None
    compile: bool | Literal["auto"] = "auto"
    max_edges: Count | None = None
    skip_fixed: bool = False
    progress: bool = True
    plots: bool = True

    def __post_init__(self) -> None:
        check_settings(self)
