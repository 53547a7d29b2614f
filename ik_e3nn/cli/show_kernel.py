"""Pictures of kernels, learned or random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ik_e3nn import pictures
from ik_e3nn.atomic import together
from ik_e3nn.errors import ConfigError
from ik_e3nn.settings import Seed, check_settings
from ik_e3nn.user_path import user_path


@dataclass(frozen=True)
class ShowKernelSettings:
    """Settings of ``ik-e3nn show-kernel``.

    Args:
        model: Model file, of a potential or of properties; "base" comes with the package. If absent, kernels
            with random weights are drawn for the group and types below.
        output: Folder for the pictures.
        group: Symmetry group of a random kernel, such as C4v, SO2 or O3.
        irreps_in: Type of its input.
        irreps_out: Type of its output.
        irreps_attributes: Type of the attributes that it is conditioned on, such as 2x0e+1o.
        r_max: Its cutoff (A).
        seed: Seed of its weights.
        layer: Layer of a model.
        pairs: Receivers and senders in a model, such as C-O, or C-O:double if it sees bonds.
        channels: Channels of input and output of a model; the strongest ones if absent.
        plane: Axes of the plane that is drawn.
        height: Coordinate (A) of the plane along the third axis.
        overwrite: Replace pictures that exist.
    """

    model: str | None = None
    output: str = "kernel"
    group: str = "O3"
    irreps_in: str = "0e"
    irreps_out: str = "0e + 1o + 2e"
    irreps_attributes: str = ""
    r_max: float = 3.0
    seed: Seed = 0
    layer: int = 0
    pairs: Sequence[str] = ()
    channels: Sequence[int] | None = None
    plane: str = "xy"
    height: float = 0.4
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_settings(self)


def show_kernel(settings: ShowKernelSettings) -> str:
    """Draw a kernel on a plane and on a sphere, for several attributes, and the check that it is steerable.

    Args:
        settings: The settings.

    Returns:
        The files, and the errors of that check.

    Raises:
        ConfigError: A group, type, pair or plane is impossible.
        FileExistsError: The pictures exist, and overwrite is False.
    """
    from ik_e3nn.show import Plane, cases_figure, inside, most_moved, rotation_figure, slices_figure, sphere_figure

    kernel = _kernel(settings)
    plane = Plane(settings.plane, settings.height, kernel.reach)
    folder = user_path(settings.output)
    names = ["slices", "sphere", "rotation"] + ["cases"] * (len(kernel.cases) > 1)
    paths = {name: folder / f"{name}.png" for name in names}
    existing = [path for path in paths.values() if path.exists()]
    if existing and not settings.overwrite:
        raise FileExistsError(f"{existing[0]} exists: choose another folder with -o, or give --overwrite")
    turning, errors = rotation_figure(kernel, plane, most_moved(kernel, inside(kernel.group)))
    figures = {"slices": slices_figure(kernel, plane), "sphere": sphere_figure(kernel, 0.5 * kernel.reach)}
    figures["rotation"] = turning
    if "cases" in paths:
        figures["cases"] = cases_figure(kernel, plane)
    folder.mkdir(parents=True, exist_ok=True)
    with together(*paths.values()):
        for name, figure in figures.items():
            pictures.save(figure, paths[name])
    lines = [str(path) for path in paths.values()]
    lines += [
        f"turned by an element {name} of {kernel.group.name}: relative error {e:.1e}" for name, e in errors.items()
    ]
    return "\n".join(lines)


def _kernel(settings: ShowKernelSettings) -> Any:
    """Make a ``ShownKernel``; its module is imported here, because the help must not import it."""
    from ik_e3nn.show import potential_kernel, random_kernel

    if settings.model is not None:
        channels = None if settings.channels is None else tuple(settings.channels)
        if channels is not None and len(channels) != 2:
            raise ConfigError(f"channels must be two numbers, for the input and for the output; got {list(channels)}")
        blocks = _blocks(settings.model)
        return potential_kernel(blocks, layer=settings.layer, pairs=settings.pairs, channels=channels)
    if settings.pairs or settings.channels is not None:
        raise ConfigError("pairs and channels are settings for a model; give a model file")
    s = settings
    try:
        return random_kernel(
            s.group, s.irreps_in, s.irreps_out, irreps_attributes=s.irreps_attributes, r_max=s.r_max, seed=s.seed
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _blocks(name: str) -> Any:
    """The potential in a file, or the potential whose blocks a model of properties uses."""
    import torch

    from ik_e3nn.models import load_model

    model: Any = load_model(name, "cpu", torch.float64)
    blocks = getattr(model, "body", model).potential
    if blocks is None:
        raise ConfigError(
            f"{name} has the network of the paper; kernels are shown only for models with the blocks of a potential"
        )
    return blocks
