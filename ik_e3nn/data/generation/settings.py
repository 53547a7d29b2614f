"""Settings of ``ik-e3nn data generate``."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ik_e3nn.data.files.extxyz import require_extxyz
from ik_e3nn.data.generation.labeling import CALCULATOR_NAMES
from ik_e3nn.errors import DataError
from ik_e3nn.settings import Count, CountOrZero, NotNegative, Positive, Seed, check_settings, refuse_unused

# Settings that only some methods use.
_ONLY = {
    "md": ("timestep", "interval", "equilibration", "friction"),
    "md or normal-modes": ("temperatures",),
    "rattle": ("displacement", "strain"),
}


@dataclass(frozen=True)
class GenerateSettings:
    """Settings of a generation of labeled frames.

    The defaults make a training set for dynamics at room temperature: Langevin dynamics with the reference method at
    300 K and well above, so that the training set covers more than these dynamics.

    Args:
        output: File to write, extxyz.
        smiles: Molecules as SMILES strings.
        structures: Files, globs or folders with starting structures.
        calculator: Reference method: "gfn2-xtb", "gfn1-xtb", "emt", "lj", "steele" (a wall of graphite at z = 0),
            "module:Class" for any ASE calculator, or a sum of them, as in "gfn2-xtb+steele". The module, which may be a
            file in the working folder, is run, and many calculators start a program named in
            ``calculator_options``: read a configuration from somebody else before you use it.
        calculator_options: Further arguments of the calculator; for a sum, the arguments of each by its name.
        num_frames: Frames for each molecule or starting structure, divided evenly among conformers and temperatures.
        method: "md" (Langevin dynamics), "normal-modes" (harmonic displacements; one calculation a frame, for expensive
            methods), or "rattle" (random displacements and strains, for crystals).
        temperatures: Temperatures in K.
        timestep: Time step of the dynamics in fs.
        interval: Steps between frames.
        equilibration: Steps before the first frame of each temperature.
        friction: Friction of the dynamics in 1/fs.
        displacement: Standard deviation of rattled coordinates in A.
        strain: Largest component of a rattled cell's strain.
        num_conformers: Conformers to start from, for SMILES.
        relax: Whether to relax the start with the reference method (positions only; never for "rattle").
        charge: Total charge in e; by default that of the molecule.
        spin: Multiplicity 2S+1; by default that of the molecule.
        heights: Smallest and largest height in A of the lowest atom over a surface at z = 0: every frame is rotated and
            placed at random between them. By default frames are not moved: structures then start where they are, over
            the top of a substrate at z = 0 with its center at x = y = 0.
        lateral: Largest random shift in A, along x and along y, of frames over a surface.
        substrate: Structure file of a surface with atoms, which are held fixed. Frames are labeled over it, with its
            top at z = 0, and written without its atoms and its energy. Frames over any surface have a
            ``surface_origin``. If the substrate is periodic, the lattice of its face is
            written as ``surface_cell`` and ``surface_origin``, for models with ``inputs: [face]``.
        surface_cell: The two lattice vectors of a substrate that is not periodic itself, such as a flake of graphene,
            as six numbers in A. The origin of the lattice is the center of the substrate.
        isolated_atoms: Whether to label each species as an isolated atom too, for E0.
        seed: Random seed.
        resume: Whether to continue an interrupted run from ``<output>.partial``.
        overwrite: Whether ``output`` may be replaced.

    Raises:
        DataError: No starting structure is given, or a value is out of range.
        ConfigError: A setting has no effect with the method.

    Example:
        >>> GenerateSettings(output="ethanol.xyz", smiles=["CCO"], num_frames=300).temperatures
        (300.0, 500.0, 800.0)
    """

    output: str
    smiles: Sequence[str] = ()
    structures: Sequence[str] = ()
    calculator: str = "gfn2-xtb"
    calculator_options: dict[str, Any] = field(default_factory=dict)
    num_frames: Count = 300
    method: Literal["md", "normal-modes", "rattle"] = "md"
    temperatures: Sequence[Positive] = (300.0, 500.0, 800.0)
    timestep: Positive = 1.0
    interval: Count = 20
    equilibration: CountOrZero = 200
    friction: Positive = 0.02
    displacement: NotNegative = 0.05
    strain: NotNegative = 0.03
    num_conformers: Count = 3
    relax: bool = True
    charge: int | None = None
    spin: int | None = None
    heights: Sequence[float] = ()
    lateral: NotNegative = 0.0
    substrate: str | None = None
    surface_cell: Sequence[float] = ()
    isolated_atoms: bool = False
    seed: Seed = 0
    resume: bool = True
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_settings(self)
        require_extxyz(self.output)
        if not self.smiles and not self.structures:
            raise DataError("nothing to start from: give smiles or structures")
        self._check_surface()
        if not self.temperatures:
            raise DataError("temperatures are missing; give at least one, in K")
        for method, names in _ONLY.items():
            if self.method not in method.split(" or "):
                reason = f"method is {self.method!r}, and only {method} uses it"
                refuse_unused(self, names, reason, advice=f"set method to {method}")
        if not self.smiles:
            refuse_unused(self, ("num_conformers",), "only smiles have conformers, and none are given")

    def _check_surface(self) -> None:
        if self.heights and not (len(self.heights) == 2 and 0 < self.heights[0] <= self.heights[1]):
            raise DataError(
                f"heights must be two positive numbers, the smallest and largest in A, got {list(self.heights)}"
            )
        placed = self.substrate and not self.smiles
        if not self.heights and not placed and (self.substrate or "steele" in self.calculator.split("+")):
            raise DataError("a surface needs heights: give the range for the molecules over it in A, as in [2.4, 9]")
        if self.surface_cell and (not self.substrate or len(self.surface_cell) != 6 or any(self.surface_cell[2::3])):
            raise DataError(
                "surface_cell must be the two lattice vectors of a substrate across z, six numbers in A, and needs a "
                f"substrate; got {list(self.surface_cell)}"
            )
        free = [name in CALCULATOR_NAMES and name != "steele" for name in self.calculator.split("+")]
        if self.heights and not self.substrate and all(free):
            raise DataError(
                f"heights are given, but {self.calculator} has no surface, so that labels would be those of free "
                'molecules: add a wall, as in "gfn2-xtb+steele", or give a substrate'
            )
        if self.lateral and not self.heights:
            raise DataError("lateral shifts frames over a surface, but no heights are given; give heights, too")
