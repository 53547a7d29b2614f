"""Checks before a search: hosts that the model was not made for, and cells too small for the molecule."""

import itertools
import logging

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from ik_e3nn.blocks.surroundings import Surroundings
from ik_e3nn.errors import DataError, MissingInputError
from ik_e3nn.graph import get_bonds, structure_number
from ik_e3nn.models import InteratomicPotential
from ik_e3nn_calculators.dock.system.host import FACE, SITE, SURFACE, Host
from ik_e3nn_calculators.dock.system.ligand import Ligand
from ik_e3nn_calculators.dock.system.region import Region

_log = logging.getLogger(__name__)

ROOM = 2.0  # A; the least distance between a molecule and its own image
TILT = 1e-3  # sine of an angle between a slab's normal and z that counts as zero


def check_host(model: InteratomicPotential, host: Host) -> None:
    """Refuse a host that a model was not made for.

    Raises:
        DataError: The host has atoms but the model knows a surface without atoms, or the other way round, the normal of
            the surface is not z, or the group of a site is not finite.
    """
    surroundings = model.surroundings
    if surroundings is None and len(host.atoms) == 0:
        raise DataError(
            f"the model knows no {host.name} without atoms (its inputs lack {host.name}); give a model that knows one, "
            "or the host as a structure file"
        )
    kind = "" if surroundings is None else surroundings.kind
    fitting = kind if kind in (SURFACE, FACE, SITE) else SURFACE
    if surroundings is not None and (len(host.atoms) > 0 or host.name != fitting):
        raise DataError(f"the model was made for a {kind} without atoms; use --host {fitting}")
    if kind == SITE and not model.group.is_finite:
        raise DataError(
            f"poses in a site are searched with models of finite groups, but that of this model is {model.group.name}, "
            "which has rotations by any angle"
        )
    if surroundings is not None and kind != SITE:
        _check_surface(model, surroundings)
    _check_inputs(model, host.atoms, host.name)


def _check_surface(model: InteratomicPotential, surroundings: Surroundings) -> None:
    """Refuse surroundings other than one surface whose normal is z."""
    if surroundings.kind not in (SURFACE, FACE) or abs(model.group.axis[2]) < 1 - 1e-9:
        raise DataError("poses are searched over a surface whose normal is z; this model has other surroundings")
    if not surroundings.keeps_places:
        raise DataError(
            f"poses are searched over one surface, but {model.group.name} has two equal walls: "
            "the model describes a slit"
        )


def _check_inputs(model: InteratomicPotential, atoms: Atoms, name: str) -> None:
    """Refuse a host without the charge, spin or bonds that the model needs, instead of assuming defaults."""
    for wanted, key in (("total_charge", "charge"), ("spin", "spin")):
        if wanted in model.inputs and len(atoms) and structure_number(atoms, key) is None:
            raise MissingInputError(
                f"the model needs the {key} of {name}, which the file does not give; provide the host, or its part "
                f"around the site, as an extxyz file with {key}=... in the comment line"
            )
    if "bond_types" in model.inputs and len(atoms) and not atoms.pbc.any() and not len(get_bonds(atoms)):
        raise MissingInputError(
            f"the model needs bonds, but {name} has none; provide it as an SDF file, or as extxyz with bonds"
        )


def check_slab(host: Host) -> None:
    """Refuse a slab whose normal is not z.

    Raises:
        DataError: It is periodic along two cell vectors, or has vacuum along the third, and z is not its normal.
    """
    pbc, cell = host.atoms.pbc, host.atoms.cell.array
    if pbc.sum() != 2 and not (pbc.all() and host.is_surface):
        return
    first, second = cell[pbc][:2]
    normal = np.cross(first, second) / np.linalg.norm(np.cross(first, second))
    if np.hypot(normal[0], normal[1]) > TILT or not pbc[:2].all():
        raise DataError(
            f"the normal of {host.name} is ({normal[0]:.2f}, {normal[1]:.2f}, {normal[2]:.2f}), periodic along cell "
            f"vectors {[int(i) + 1 for i in np.flatnonzero(pbc)]}; poses are searched over slabs whose normal is z and "
            'that are periodic along the first two: rotate it, with atoms.rotate(normal, "z", rotate_cell=True), or '
            "reorder its cell vectors"
        )


def warn_of_images(host: Host, ligand: Ligand, reach: float) -> None:
    """Warn if a molecule may feel its own images in a periodic host, so that binding energies are those of a layer."""
    periodic = host.atoms.cell.array[host.atoms.pbc]
    if not len(periodic):
        return
    size, shortest = _size(ligand), _shortest_vector(periodic)
    if shortest - size < reach:
        _log.warning(
            "images of %s in the cell of %s come as near as %.1f A to each other, within the model's cutoff of %.1f A: "
            "binding energies are those of a layer of molecules; repeat the host for those of a single one",
            *(ligand.name, host.name, shortest - size, reach),
        )


def check_cell(host: Host, ligand: Ligand, region: Region) -> None:
    """Refuse a periodic host whose cell has no room for the molecule.

    Raises:
        DataError: The molecule would touch its own image sideways, or the slab's next image from below.
    """
    periodic = host.atoms.cell.array[host.atoms.pbc]
    if not len(periodic):
        return
    size, shortest = _size(ligand), _shortest_vector(periodic)
    if shortest < size + ROOM:
        raise DataError(
            f"{ligand.name} is {size:.1f} A long and its images in the cell of {host.name} are {shortest:.1f} A apart; "
            f"expected at least {size + ROOM:.1f} A: repeat the host, as in atoms.repeat((2, 2, 1))"
        )
    needed = region.upper[2] - host.top + size + ROOM
    if region.layer and host.vacuum < needed:
        raise DataError(
            f"{host.name} has {host.vacuum:.1f} A of vacuum; {ligand.name}, {size:.1f} A long, at heights up to "
            f"{region.upper[2] - host.top:.1f} A needs {needed:.1f} A, or it meets the slab's next image: set pbc to "
            "False along z, take more vacuum, or lower region.heights"
        )


def _size(ligand: Ligand) -> float:
    """The largest distance of two atoms in any conformer, in A."""
    return max(float(pdist(conformer.positions).max(initial=0.0)) for conformer in ligand.conformers)


def _shortest_vector(cell: NDArray[np.float64]) -> float:
    """The shortest distance to a periodic image, in A, for cell vectors (k, 3)."""
    images = np.array(list(itertools.product((-1, 0, 1), repeat=len(cell)))) @ cell
    lengths = np.linalg.norm(images, axis=1)
    return float(lengths[lengths > 0].min())
