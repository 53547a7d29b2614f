"""The plan of a generation: starting structures, chains of frames, and the fingerprint of the run."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from ase import Atoms
from ase.io.jsonio import encode

from ik_e3nn.data.bonds.completeness import check_hydrogens
from ik_e3nn.data.files.reading import read_structures
from ik_e3nn.data.generation.langevin import LangevinSampler
from ik_e3nn.data.generation.normal_modes import NormalModeSampler
from ik_e3nn.data.generation.over_surface import RandomPlacement, lifted
from ik_e3nn.data.generation.sampling import RattleSampler, Sampler
from ik_e3nn.data.generation.settings import GenerateSettings
from ik_e3nn.data.structures.isotopes import keep_masses
from ik_e3nn.data.structures.molecules import conformers
from ik_e3nn.errors import DataError
from ik_e3nn.graph import fitting_bonds, get_shares, has_bonds, set_bonds, set_shares, stated_number
from ik_e3nn.user_path import user_path

# Settings of where and how to write, which do not change the frames.
_NOT_PART_OF_THE_RUN = ("output", "resume", "overwrite")


@dataclass(frozen=True)
class Chain:
    """Frames from one starting structure at one temperature.

    Args:
        start: The starting structure, with its final charge and spin.
        source: Number of the molecule or of the structure in the files.
        conformer: Number of the conformer.
        temperature: Temperature in K; 0 for samplers without one.
        num_frames: Number of frames.

    Example:
        >>> Chain(Atoms("H"), 0, 1, 300.0, 5).key
        '0/1'
    """

    start: Atoms
    source: int
    conformer: int
    temperature: float
    num_frames: int

    @property
    def key(self) -> str:
        """Name of the starting structure in the work file."""
        return f"{self.source}/{self.conformer}"


def starting_structures(settings: GenerateSettings) -> list[list[Atoms]]:
    """Starting structures: a list of conformers for each molecule or structure.

    Args:
        settings: What to generate.

    Returns:
        New structures without calculators; charge and spin are in ``info`` if they are known or given.

    Raises:
        DataError: A SMILES or a file cannot be read, or the spin is impossible for the number of electrons.

    Example:
        >>> [[atoms]] = starting_structures(GenerateSettings(output="a.xyz", smiles=["[OH-]"]))
        >>> atoms.info["charge"], atoms.info["spin"]
        (-1, 1)
    """
    starts = [conformers(smiles, settings.num_conformers, settings.seed) for smiles in settings.smiles]
    if settings.structures:
        starts.extend([atoms] for atoms in read_structures(list(settings.structures)))
    for atoms in (one for group in starts for one in group):
        check_hydrogens(atoms)
    starts = [[_plain_copy(atoms, settings) for atoms in group] for group in starts]
    if settings.heights:
        if any(atoms.pbc.any() for group in starts for atoms in group):
            raise DataError(
                "heights are for molecules, but a starting structure is periodic, and cells cannot be rotated"
            )
        starts = [[lifted(atoms, settings.heights[1]) for atoms in group] for group in starts]
    return starts


def plan_chains(settings: GenerateSettings, starts: Sequence[Sequence[Atoms]]) -> list[Chain]:
    """Divide the frames of each molecule or structure evenly among its conformers and temperatures.

    Args:
        settings: What to generate.
        starts: Conformers of each molecule or structure.

    Returns:
        Chains with at least one frame.

    Example:
        >>> settings = GenerateSettings(output="a.xyz", smiles=["C"], num_frames=5, temperatures=[300.0, 600.0])
        >>> [chain.num_frames for chain in plan_chains(settings, [[Atoms("H")]])]
        [3, 2]
    """
    temperatures = dict.fromkeys(settings.temperatures) if make_sampler(settings).uses_temperature else [0.0]
    chains = []
    for source, group in enumerate(starts):
        pairs = [(number, atoms, kelvin) for kelvin in temperatures for number, atoms in enumerate(group)]
        share, rest = divmod(settings.num_frames, len(pairs))
        for position, (number, atoms, kelvin) in enumerate(pairs):
            count = share + (position < rest)
            if count:
                chains.append(Chain(atoms, source, number, float(kelvin), count))
    return chains


def make_sampler(settings: GenerateSettings) -> Sampler:
    """Make the sampler of the settings.

    Args:
        settings: What to generate.

    Returns:
        A sampler.

    Example:
        >>> make_sampler(GenerateSettings(output="a.xyz", smiles=["C"], method="rattle")).name
        'rattle'
    """
    sampler: Sampler
    if settings.method == "rattle":
        sampler = RattleSampler(settings.displacement, settings.strain)
    elif settings.method == "normal-modes":
        sampler = NormalModeSampler()
    else:
        sampler = LangevinSampler(settings.timestep, settings.interval, settings.equilibration, settings.friction)
    return RandomPlacement(sampler, heights=settings.heights, lateral=settings.lateral) if settings.heights else sampler


def fingerprint(settings: GenerateSettings, starts: Sequence[Sequence[Atoms]]) -> str:
    """A hash of settings and starting structures, which identifies a run.

    Args:
        settings: What to generate.
        starts: Conformers of each molecule or structure.

    Returns:
        A hexadecimal string.

    Example:
        >>> one, two = (GenerateSettings(output=name, smiles=["C"]) for name in ("a.xyz", "b.xyz"))
        >>> fingerprint(one, []) == fingerprint(two, [])
        True
    """
    values = {key: value for key, value in dataclasses.asdict(settings).items() if key not in _NOT_PART_OF_THE_RUN}
    if settings.substrate is not None:
        values["substrate"] = hashlib.sha256(user_path(settings.substrate).read_bytes()).hexdigest()
    structures = [
        [atoms.numbers.tolist(), atoms.positions.tolist(), atoms.cell.array.tolist(), atoms.pbc.tolist()]
        for group in starts
        for atoms in group
    ]
    masses = [atoms.get_masses().tolist() for group in starts for atoms in group if "masses" in atoms.arrays]
    constraints = [constraint.todict() for group in starts for atoms in group for constraint in atoms.constraints]
    parts = [values, structures, *masses, *([encode(constraints)] if constraints else [])]
    text = json.dumps(parts, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain_copy(atoms: Atoms, settings: GenerateSettings) -> Atoms:
    """A copy with species, masses, positions, cell, constraints, bonds, charges and spin only."""
    copy = Atoms(
        numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc, constraint=atoms.constraints
    )
    keep_masses(atoms, copy)
    if has_bonds(atoms):
        set_bonds(copy, fitting_bonds(atoms))
        if settings.charge is None and settings.spin is None:  # charges and spins of the atoms
            set_shares(copy, *get_shares(atoms).T)
    for key, given in (("charge", settings.charge), ("spin", settings.spin)):
        value = given if given is not None else stated_number(atoms, key)
        if value is not None:
            copy.info[key] = int(value) if float(value).is_integer() else float(value)
    _check_spin(copy)
    return copy


def _check_spin(atoms: Atoms) -> None:
    """Raise if the multiplicity is impossible for the number of electrons."""
    spin = atoms.info.get("spin")
    if spin is None or atoms.pbc.any():
        return
    electrons = int(atoms.numbers.sum()) - round(atoms.info.get("charge", 0))
    if spin < 1 or (electrons + spin) % 2 != 1:
        raise DataError(
            f"a spin multiplicity (2S+1) of {spin} is impossible with the {electrons} electrons of "
            f"{atoms.get_chemical_formula()}; check charge and spin"
        )
