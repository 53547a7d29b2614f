"""What each part of the potential is worth: error and cost of variants after the same training time.

    python examples/benchmarks/ablation.py --data-root DATA --work WORK [--minutes 5] [--lanes 2]

Every variant is the default model with one thing changed, trained on the same frames for the same wall time on one
core, eagerly, `--lanes` at a time. The best four by validation error then train on aspirin and with a second seed.
Finished rows are kept in the work folder and skipped; the results go to results/ablation.json and ablation.md.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Any

import matplotlib as mpl
import torch
from ase.io import read
from e3nn import o3
from potentials import sets
from torch import Tensor
from tqdm import tqdm

from ik_e3nn.basis import BesselBasis, GaussianBasis, spherical_irreps
from ik_e3nn.blocks import interaction
from ik_e3nn.conv import ReceiverBlocks
from ik_e3nn.conv.full import FullMixing
from ik_e3nn.graph import batch_graphs, build_graph
from ik_e3nn.kernels import ImplicitKernel, RadialKernel, SeparableFilter, radial
from ik_e3nn.models import InteratomicPotential, load_model
from ik_e3nn.nn import TensorPowers
from ik_e3nn.nn.layout import from_components, to_components
from ik_e3nn.symmetry import SymmetryGroup

HERE = Path(__file__).parent
OUTPUT = HERE / "results" / "ablation.json"
BEST = 4
BATCH = 5


@dataclass(frozen=True)
class Variant:
    """One row.

    Args:
        what: What differs from the default, for the table.
        settings: Settings of `ik-e3nn train` that differ.
        patch: Changes the library's code before the model is made, for what has no setting.
        after: Changes a new model.
    """

    what: str
    settings: dict[str, Any] = field(default_factory=dict)
    patch: Callable[[], None] | None = None
    after: Callable[[InteratomicPotential], None] | None = None


def freeze_at_zero(model: InteratomicPotential, *names: str) -> None:
    """Switch off linear maps that end in one of the names."""
    for name, parameter in model.named_parameters():
        if any(part in name.split(".") for part in names):
            parameter.data.zero_()
            parameter.requires_grad_(False)


def gaussian_radial() -> None:
    """Gaussians instead of Bessel functions."""
    interaction.BesselBasis = GaussianBasis  # type: ignore[misc,assignment]


def envelope_of_degree_5() -> None:
    """A window with one vanishing derivative at the cutoff less."""

    def window(x: Tensor) -> Tensor:
        inside = x < 1
        x = torch.where(inside, x, 0.0)
        return torch.where(inside, 1 + x**3 * (-10 + x * (15 - 6 * x)), 0.0)

    radial.smooth_envelope = window  # type: ignore[attr-defined]


def couplings() -> None:
    """All bilinear maps, each path with weights of its own, instead of products on the sphere."""

    def make(a: o3.Irreps, b: o3.Irreps, group: SymmetryGroup, correlation: int) -> TensorPowers:
        return TensorPowers(a, b, group, correlation=correlation)

    interaction.make_product = make  # type: ignore[assignment]


def steerable_kernel() -> None:
    """The kernel also sees the steerable part of both atoms' features: filters are no longer radial times harmonics."""

    def make(channels: int, c: interaction.Conditioning) -> ImplicitKernel:
        basis = interaction.RadialHarmonicBasis(BesselBasis(c.r_max, interaction.NUM_RADIAL), c.l_max)
        return ImplicitKernel("", spherical_irreps(c.l_max, channels), c.group, basis=basis, depth=1, activation="gate")

    interaction.make_kernel = make


def kernel_width(width: int) -> Callable[[], None]:
    """Another hidden layer of the kernel."""

    def patch() -> None:
        interaction.KERNEL_WIDTH = width

    return patch


def deep_kernel() -> None:
    """A second hidden layer in the kernel."""

    def make(channels: int, c: interaction.Conditioning) -> RadialKernel:
        basis = BesselBasis(c.r_max, interaction.NUM_RADIAL)
        return RadialKernel(0, channels, radial=basis, l_max=c.l_max, hidden=(64, 64), group=c.group)

    interaction.make_kernel = make  # type: ignore[assignment]


class LowRankMixing(FullMixing):
    """Every channel with every filter field, for features with components first."""

    def on_components(
        self, x: Tensor, senders: Tensor, filter_fields: SeparableFilter, owners: Tensor, num_nodes: int
    ) -> list[Tensor]:
        """See `DepthwiseMixing.on_components`."""
        blocks = ReceiverBlocks(torch.arange(senders.numel()).view(senders.shape), owners)
        y = self(from_components(x, self.blocks_in), senders.flatten(), filter_fields, blocks, num_nodes)
        return list(to_components(y, self.blocks_out).split([b.dim for b in self.blocks_out]))


def low_rank() -> None:
    """Full mixing of all channels with eight filter fields of each degree."""

    def make(_: int, c: interaction.Conditioning) -> RadialKernel:
        basis = BesselBasis(c.r_max, interaction.NUM_RADIAL)
        return RadialKernel(0, 8, radial=basis, l_max=c.l_max, hidden=(interaction.KERNEL_WIDTH,), group=c.group)

    interaction.make_kernel = make  # type: ignore[assignment]
    interaction.DepthwiseMixing = LowRankMixing  # type: ignore[misc,assignment]


def root_of_neighbours() -> None:
    """Divide sums by the root of the number of neighbours."""
    original = InteratomicPotential.set_average_neighbours
    InteratomicPotential.set_average_neighbours = lambda self, n: original(self, n**0.5)  # type: ignore[method-assign]


def last_readout(model: InteratomicPotential) -> None:
    """Read the energy from the last layer alone."""
    for readout in list(model.readouts)[:-1]:
        for parameter in readout.parameters():
            parameter.data.zero_()
            parameter.requires_grad_(False)


def zero_readouts(model: InteratomicPotential) -> None:
    """Start from zero interaction energy."""
    for name, parameter in model.named_parameters():
        if name.startswith("readouts") and "mlp" in name:
            parameter.data.zero_()


VARIANTS = {
    "default": Variant("(default)"),
    "l_features 2": Variant("node features to l = 2", {"model.l_features": 2}),
    "l_max 2": Variant("filters to l = 2", {"model.l_max": 2}),
    "64 channels": Variant("64 channels", {"model.num_channels": 64}),
    "16 channels": Variant("16 channels", {"model.num_channels": 16}),
    "couplings": Variant("all couplings, a weight a path, instead of products on the sphere", patch=couplings),
    "no node features in the kernel": Variant(
        "kernel sees species, not the atoms' features", after=lambda m: freeze_at_zero(m, "sender", "receiver")
    ),
    "correlation 2": Variant("2 factors", {"model.correlation": 2}),
    "correlation 4": Variant("4 factors", {"model.correlation": 4}),
    "l_features 0": Variant("scalar node features", {"model.l_features": 0}),
    "3 layers": Variant("3 layers", {"model.num_layers": 3}),
    "squares": Variant("mean squared error instead of Huber's loss (0.01)", {"loss.kind": "mse"}),
    "plateau": Variant("learning rate halved at plateaus", {"optimizer.schedule": "plateau"}),
    "constant lr": Variant("constant learning rate", {"optimizer.schedule": "constant"}),
    "lr 0.02": Variant("learning rate 0.02", {"optimizer.lr": 0.02}),
    "root of neighbours": Variant("sums over the root of the neighbours", patch=root_of_neighbours),
    "gaussian": Variant("Gaussian radial basis", patch=gaussian_radial),
    "kernel width 32": Variant("kernel with 32 hidden units", patch=kernel_width(32)),
    "last readout": Variant("readout after the last layer alone", after=last_readout),
    "longer average": Variant("moving average over 1,000 steps instead of 100", {"optimizer.ema_decay": 0.999}),
    "weight decay": Variant("decoupled weight decay of 0.01", {"optimizer.weight_decay": 0.01}),
    "no average": Variant("no moving average", {"optimizer.ema_decay": 0.0}),
    "zero start": Variant("readouts start at zero", after=zero_readouts),
    "steerable kernel": Variant("kernel also sees steerable features (no longer separable)", patch=steerable_kernel),
    "1 layer": Variant("1 layer", {"model.num_layers": 1}),
    "correlation 1": Variant("1 factor", {"model.correlation": 1}),
    "batch 2": Variant("2 structures a step", {"run.batch_size": 2}),
    "deep kernel": Variant("kernel with 2 hidden layers", patch=deep_kernel),
    "distance only": Variant(
        "kernel sees the distance alone",
        after=lambda m: freeze_at_zero(m, "sender", "receiver", "sender_species", "receiver_species"),
    ),
    "energy weight 1": Variant("constant energy weight of 1", {"loss.energy_growth": 1.0}),
    "energy weight 10": Variant("constant weight of 10", {"loss.energy_weight": 10.0, "loss.energy_growth": 1.0}),
    "energy weight to 1000": Variant("energy weight from 1 to 1,000", {"loss.energy_growth": 1000.0}),
    "low rank": Variant("full mixing of channels with 8 filter fields (low rank), not depthwise", patch=low_rank),
    "lr 0.1": Variant("learning rate 0.1", {"optimizer.lr": 0.1}),
    "envelope": Variant("shorter polynomial window", patch=envelope_of_degree_5),
    "float64": Variant("double precision (by default site energies alone)", {"run.dtype": "float64"}),
    "no amsgrad": Variant("Adam without AMSGrad", {"optimizer.amsgrad": False}),
}


def run_one(name: str, data: Path, folder: Path, minutes: float, seed: int) -> dict[str, Any]:
    """Train and test one variant in this process."""
    from ik_e3nn.cli import main as command

    variant = VARIANTS[name]
    if variant.patch is not None:
        variant.patch()
    if variant.after is not None:
        _after_init(variant.after)
    settings: dict[str, Any] = {
        "data.train": data / "train.xyz", "data.valid": data / "valid.xyz", "data.test": data / "test.xyz",
        "run.output": folder, "run.overwrite": True, "run.max_minutes": minutes, "run.max_epochs": 100_000,
        "run.num_threads": 1, "run.progress": False, "run.seed": seed, "run.device": "cpu", "run.batch_size": BATCH,
    }  # fmt: skip
    config = folder.with_suffix(".yaml")
    config.write_text("{}\n")
    if command(["train", str(config), *(f"--{k}={v}" for k, v in (settings | variant.settings).items())]):
        raise RuntimeError(f"training of {name!r} failed")
    metrics = json.loads((folder / "metrics.json").read_text())
    test, seconds = metrics["test"], metrics["seconds"]
    return {
        "valid_force_rmse_meV_per_A": metrics["valid"]["force_rmse_meV_per_A"],
        "force_rmse_meV_per_A": test["force_rmse_meV_per_A"],
        "energy_rmse_meV_per_atom": test["energy_rmse_meV_per_atom"],
        "epochs": metrics["epochs"],
        "ms_per_step": 1e3 * seconds / metrics["steps"],
        "train_seconds": seconds,
        "inference_edges_per_s": throughput(folder / "model.safetensors", data),
        "parameters": metrics["parameters"],
    }


def throughput(file: Path, data: Path) -> float:
    """Edges a second, energies and forces of a batch, one thread: median of repeated calls."""
    torch.set_num_threads(1)
    model = load_model(file).requires_grad_(False)
    graph = batch_graphs([build_graph(atoms, model.r_max) for atoms in read(data / "test.xyz", ":16")])
    times = []
    for _ in range(12):
        start = time.perf_counter()
        model(graph)
        times.append(time.perf_counter() - start)
    return float(graph["edge_index"].shape[1] / sorted(times)[len(times) // 2])


def _after_init(after: Callable[[InteratomicPotential], None]) -> None:
    """Change every new model; a model that is read from a file gets its weights afterwards."""
    original = InteratomicPotential.__init__

    @functools.wraps(original)  # the command reads its settings from the signature
    def init(self: InteratomicPotential, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        after(self)

    InteratomicPotential.__init__ = init  # type: ignore[method-assign]


def run_all(jobs: list[tuple[str, str, int]], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of (variant, set, seed), each in a process of its own, `--lanes` at a time and each lane on its core."""
    cores: Queue[int] = Queue()
    for core in sorted(os.sched_getaffinity(0))[: args.lanes]:
        cores.put(core)

    def work(job: tuple[str, str, int]) -> dict[str, Any]:
        name, data_set, seed = job
        result = args.work / data_set / f"{name.replace(' ', '_')}_{seed}.json"
        if not result.exists():
            core = cores.get()
            command = [sys.executable, __file__, "--run", name, "--set", data_set, "--seed", str(seed)]
            command += ["--data-root", args.data_root, "--work", args.work, "--minutes", args.minutes]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            with open(result.with_suffix(".log"), "w") as log:
                subprocess.run(
                    ["taskset", "-c", str(core), *map(str, command)],
                    check=False,
                    stdout=log,
                    stderr=log,
                    env=environment,
                )
            cores.put(core)
        if not result.exists():
            tqdm.write(f"{name} on {data_set} failed, see {result.with_suffix('.log')}")
            return {}
        row: dict[str, Any] = json.loads(result.read_text())
        tqdm.write(
            f"{data_set:8s} {name:32s} {row['force_rmse_meV_per_A']:7.1f} meV/A {row['ms_per_step']:7.1f} ms/step"
        )
        return row

    with ThreadPoolExecutor(args.lanes) as pool:
        return [row for row in tqdm(pool.map(work, jobs), total=len(jobs), unit="training") if row]


def write_page(rows: list[dict[str, Any]], args: argparse.Namespace) -> None:
    """JSON, Markdown and a plot of error against cost."""
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(rows, indent=1) + "\n")
    lines = [
        "# What each part of the potential is worth\n",
        f"{args.minutes:g} minutes of training on one core each, eager, batches of {BATCH}, float32; {args.lanes} at a "
        "time. Errors are root mean squares; rows are in the order of the validation error. Made by `ablation.py`.\n",
    ]
    for data_set, seed in dict.fromkeys((row["set"], row["seed"]) for row in rows):
        lines += [
            f"\n## {sets.SETS[data_set].title}, seed {seed}\n",
            "| variant | validation force meV/A | test force | test energy meV/atom | ms/step | epochs | "
            "inference edges/s | parameters |",
            "|---|---|---|---|---|---|---|---|",
        ]
        chosen = [row for row in rows if (row["set"], row["seed"]) == (data_set, seed)]
        lines += [
            f"| {row['what']} | {row['valid_force_rmse_meV_per_A']:.1f} | {row['force_rmse_meV_per_A']:.1f} | "
            f"{row['energy_rmse_meV_per_atom']:.2f} | {row['ms_per_step']:.1f} | {row['epochs']} | "
            f"{row['inference_edges_per_s']:,.0f} | {row['parameters']:,} |"
            for row in sorted(chosen, key=lambda row: row["valid_force_rmse_meV_per_A"])
        ]
    page = HERE / "ablation.md" if args.output == OUTPUT else args.output.with_suffix(".md")
    page.write_text("\n".join(lines) + "\n")
    plot([row for row in rows if row["set"] == "acac" and row["seed"] == 0], args.output.with_suffix(".png"))


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Force error against the time of a step."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 6), layout="constrained")
    for row in rows:
        axes.plot(
            row["ms_per_step"], row["force_rmse_meV_per_A"], "o", color="C1" if row["variant"] == "default" else "C0"
        )
        axes.annotate(row["variant"], (row["ms_per_step"], row["force_rmse_meV_per_A"]), fontsize=7)
    axes.set(xscale="log", yscale="log", xlabel="training step (ms)", ylabel="force RMSE (meV/A)")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Run what is missing and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder with acac_3bpa_ethanol/ and rmd17/")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything in between")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--lanes", type=int, default=2, help="trainings at a time, one core each")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--run", choices=list(VARIANTS), help=argparse.SUPPRESS)
    parser.add_argument("--set", default="acac", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.work = args.work.resolve()
    if args.run:
        name, folder = args.run, args.work / args.set
        stem = folder / f"{name.replace(' ', '_')}_{args.seed}"
        row = {"variant": name, "what": VARIANTS[name].what, "set": args.set, "seed": args.seed}
        row |= run_one(name, folder / "data", stem, args.minutes, args.seed)
        stem.with_suffix(".json").write_text(json.dumps(row, indent=1))
        return
    for data_set in ("acac", "aspirin"):
        sets.prepare(data_set, args.data_root, args.work / data_set / "data", "fit")
    rows = run_all([(name, "acac", 0) for name in args.variants], args)
    best = sorted(rows, key=lambda row: row["valid_force_rmse_meV_per_A"])[:BEST]
    names = [row["variant"] for row in best]
    rows += run_all([(name, *where) for where in (("aspirin", 0), ("acac", 1)) for name in names], args)
    write_page(rows, args)


if __name__ == "__main__":
    main()
