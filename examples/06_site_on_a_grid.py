"""Where does a binding site have room for a ligand? Steerable convolutions of an occupancy grid.

A site is given as densities on voxels: Gaussians at its carbon, nitrogen, and oxygen or sulfur atoms, one scalar field
for each kind. Four layers with implicit kernels of O(3), with scalars and vectors at every voxel, predict the density
of the ligand. The sites are small and generated: a branched molecule with atoms packed around it, an opening on one
side, and polar atoms next to polar ones. The network is trained on upright sites and tested on new ones, upright and
rotated.

    python examples/06_site_on_a_grid.py [--minutes 2] [--output site.png]
    python examples/06_site_on_a_grid.py --complexes FOLDER  # also real ones: */*_ligand.sdf and */*_protein*.pdb[.gz]
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import ase.io
import numpy as np
import torch
from e3nn import o3
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from ik_e3nn.basis import PolynomialBasis, spherical_irreps
from ik_e3nn.conv import GridConv, Stencil
from ik_e3nn.kernels import ImplicitKernel
from ik_e3nn.nn import EquivariantBatchNorm, Gate, OnGrid
from ik_e3nn.pictures import picture
from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.testing import grid_equivariance_error, grid_symmetries

POINTS, SPACING = 16, 1.25  # voxels along an axis, and their size (A)
WIDTH = 1.0  # of the Gaussians (A)
ELEMENTS = ({6}, {7}, {8, 16})  # of the three fields of a site
CHANNELS = 4  # of scalars and of vectors
Floats = NDArray[np.float64]


class Site(NamedTuple):
    """Heavy atoms of a site and of its ligand, with the center of the ligand at the origin."""

    numbers: NDArray[np.int64]
    positions: Floats
    ligand: Floats


def generated_site(rng: np.random.Generator) -> Site:
    """A branched molecule of 7 to 15 atoms, and about as many atoms around it as in a protein."""
    ligand, size = np.zeros((1, 3)), rng.integers(7, 16)
    while len(ligand) < size:
        step = rng.normal(size=3)
        candidate = ligand[rng.integers(len(ligand))] + 1.5 * step / np.linalg.norm(step)
        if np.linalg.norm(ligand - candidate, axis=1).min() > 1.4:
            ligand = np.vstack([ligand, candidate])
    ligand -= ligand.mean(0)
    polar = rng.random(size) < 0.25
    opening, start = rng.normal(size=3), rng.uniform(3.5, 5.5)
    opening /= np.linalg.norm(opening)
    numbers: list[int] = []
    places = np.zeros((0, 3))
    for candidate in rng.uniform(-12, 12, (2500, 3)):
        distances = np.linalg.norm(ligand - candidate, axis=1)
        nearest = int(distances.argmin())
        is_polar = rng.random() < 0.36
        room = 2.8 if is_polar and polar[nearest] else 3.5
        if polar[nearest] and distances[nearest] < 3.3:
            is_polar = True
        if candidate @ opening > start or distances[nearest] < room:
            continue
        if len(places) and np.linalg.norm(places - candidate, axis=1).min() < 1.9:
            continue
        places = np.vstack([places, candidate])
        numbers.append(int(rng.choice([7, 8])) if is_polar else 6)
    return Site(np.array(numbers), places, ligand)


def real_sites(folder: Path) -> dict[str, Site]:
    """Read complexes by name: heavy atoms of the protein around the ligand."""
    sites = {}
    for file in sorted(folder.glob("*/*_ligand.sdf")):
        name = file.parent.name
        (protein,) = sorted(file.parent.glob("*_protein*.pdb*"))[:1]
        ligand, atoms = ase.io.read(file), ase.io.read(protein)
        heavy = ligand.positions[ligand.numbers > 1]
        places = atoms.positions - heavy.mean(0)
        near = (np.abs(places).max(1) < 14) & (atoms.numbers > 1)
        sites[name] = Site(atoms.numbers[near], places[near], heavy - heavy.mean(0))
    return sites


def density(positions: Floats, rotation: Floats | None = None) -> Floats:
    """Sum on the voxels of Gaussians at positions (n, 3), which are first rotated if a rotation is given."""
    ticks = SPACING * (np.arange(POINTS) - (POINTS - 1) / 2)
    turned = positions if rotation is None else positions @ rotation.T
    x, y, z = (np.exp(-0.5 * ((ticks - turned[:, k : k + 1]) / WIDTH) ** 2) for k in range(3))
    return np.einsum("ax,ay,az->xyz", x, y, z)


def fields(sites: Sequence[Site], rotation: Floats | None = None) -> tuple[Tensor, Tensor]:
    """Fields of the sites (B, 3, x, y, z) and the density of their ligands (B, 1, x, y, z)."""
    inputs = [
        [density(site.positions[np.isin(site.numbers, list(kind))], rotation) for kind in ELEMENTS] for site in sites
    ]
    targets = [[density(site.ligand, rotation)] for site in sites]
    return torch.tensor(np.array(inputs)).float(), torch.tensor(np.array(targets)).float()


def layer(irreps_in: o3.Irreps | str, irreps_out: o3.Irreps | str, dilation: int = 1) -> GridConv:
    """A convolution with an implicit kernel of O(3), in A."""
    basis = PolynomialBasis(2, sigma=SPACING * dilation)
    kernel = ImplicitKernel("", spherical_irreps(2, 4), "O3", basis=basis, depth=1, activation="gate", batch_norm=True)
    return GridConv(irreps_in, irreps_out, kernel, stencil=Stencil(5, dims=3, spacing=SPACING, dilation=dilation))


def network() -> nn.Sequential:
    """Four convolutions from three scalar fields to one; the second and third are dilated."""
    hidden = spherical_irreps(1, CHANNELS)
    parts: list[nn.Module] = []
    for irreps, dilation in ((o3.Irreps("3x0e"), 1), (hidden, 2), (hidden, 2)):
        gate = Gate(hidden)
        parts += [layer(irreps, gate.irreps_in, dilation), OnGrid(EquivariantBatchNorm(gate.irreps_in)), OnGrid(gate)]
    last = layer(hidden, "1x0e")
    last.conv.normalization *= 0.1  # densities are small
    return nn.Sequential(*parts, last)


def train(model: nn.Module, sites: Sequence[Site], minutes: float) -> None:
    """Fit the densities of the ligands."""
    inputs, targets = fields(sites)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    start, done = time.perf_counter(), 0.0
    with tqdm(total=100, unit="%", desc="training") as bar:
        while done < 1:
            for batch in torch.randperm(len(sites)).split(2):
                done = min((time.perf_counter() - start) / (60 * minutes), 1.0)
                optimizer.param_groups[0]["lr"] = 1e-2 * (1 - 0.98 * done)
                loss = (model(inputs[batch]) - targets[batch]).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                bar.n = round(100 * done)
                bar.set_postfix_str(f"loss {loss.item():.4f}")
                if done >= 1:
                    break


def correlations(model: nn.Module, sites: Sequence[Site], rotation: Floats | None = None) -> Floats:
    """Correlation of predicted and true density over the voxels, for every site."""
    inputs, targets = fields(sites, rotation)
    with torch.no_grad():
        predicted = torch.cat([model(x[None]) for x in inputs])
    return np.array([np.corrcoef(a.flatten(), b.flatten())[0, 1] for a, b in zip(predicted, targets, strict=True)])


def draw(model: nn.Module, site: Site, rotation: Floats, path: Path) -> None:
    """Draw slices through the center: site, ligand and prediction, and below the same after a rotation."""
    with picture(path, 2, 3, height=5.0) as (_, axes):
        for row, g in enumerate((None, rotation)):
            inputs, target = fields([site], g)
            with torch.no_grad():
                maps = (inputs.sum(1)[0], target[0, 0], model(inputs)[0, 0])
            for column, (values, title) in enumerate(zip(maps, ("site", "ligand", "prediction"), strict=True)):
                axes[row, column].imshow(values[:, :, POINTS // 2].T.numpy(), origin="lower", cmap="magma")
                axes[row, column].set(xticks=[], yticks=[], title=title if row == 0 else f"{title}, turned")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0, help="training time")
    parser.add_argument("--sites", type=int, default=80, help="generated sites to train on")
    parser.add_argument("--complexes", type=Path, help="folder with real complexes, each in its own folder")
    parser.add_argument("--output", type=Path, default=Path("site.png"), help="picture to write")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    sites = [generated_site(rng) for _ in tqdm(range(args.sites + 10), desc="sites")]
    seen, unseen = sites[:-10], sites[-10:]
    model = network()
    train(model, seen, args.minutes)
    model.eval()
    turn = SymmetryGroup("SO3").random_elements(1, torch.Generator().manual_seed(1))[0].numpy()
    inputs, _ = fields(unseen[:1])
    exact = grid_equivariance_error(model, "3x0e", "0e", grid_symmetries("O3", 3), features=inputs)
    print(f"error under the 48 symmetries of the cube    {exact:.1e} of the result's size (float32)")
    print(f"correlation with the ligand, unseen sites    {correlations(model, unseen).mean():.3f}")
    print(f"the same sites, turned                       {correlations(model, unseen, turn).mean():.3f}")
    if args.complexes:
        for name, site in real_sites(args.complexes).items():
            upright, turned = (correlations(model, [site], g)[0] for g in (None, turn))
            print(f"complex {name:<10} correlation {upright:.3f}, turned {turned:.3f}")
    draw(model, unseen[0], turn, args.output)
    print(f"wrote {args.output.resolve()}")


if __name__ == "__main__":
    main()
