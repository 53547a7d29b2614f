"""Settings of a pose search, with units; they are checked when they are created."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ik_e3nn.errors import ConfigError, ModelFileError
from ik_e3nn.models import model_path
from ik_e3nn.settings import Count, CountOrZero, NotNegative, Positive, Seed, check_settings
from ik_e3nn.user_path import is_file
from ik_e3nn_calculators.runs import file_digest

CHANGEABLE = frozenset(
    {"output", "overwrite", "device", "progress", "plots", "batch_atoms", "steps", "fmax", "keep", "distinct"}
)
HEIGHTS = (2.0, 5.0)  # A
RADIUS = 3.0  # A


@dataclass(frozen=True)
class RegionSettings:
    """The region in which poses begin, with the center or the lowest atom of the molecule.

    Over a surface it is a range of heights; around a site it is a sphere, a box, or a sphere around another molecule.

    Args:
        heights: Least and largest height of the lowest atom over a surface or over the highest atom of a slab, in A; 2
            and 5 if not given.
        lateral: Largest shift along the two directions of a surface, in A; none if not given. Over a periodic slab the
            whole cell is used.
        sphere: Center and radius of a sphere for the center of the molecule: x, y, z, r in A.
        box: Two corners of a box for the center of the molecule: x, y, z of the first, then of the second, in A.
        around: Structure file of a molecule; the region is a sphere around its center.
        radius: Radius of that sphere in A; 3 if not given.

    Raises:
        ConfigError: More than one region is given, a setting belongs to another region, or numbers are out of range.
    """

    heights: Sequence[float] | None = None
    lateral: NotNegative | None = None
    sphere: Sequence[float] | None = None
    box: Sequence[float] | None = None
    around: str | None = None
    radius: NotNegative | None = None

    def __post_init__(self) -> None:
        check_settings(self, "region")
        given = [name for name in ("sphere", "box", "around") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigError(f"a search has one region; got {' and '.join(given)}")
        for name in ("heights", "lateral"):
            if given and getattr(self, name) is not None:
                raise ConfigError(
                    f"region.{name} is for a search over a surface and has no effect with region.{given[0]}"
                )
        if self.radius is not None and self.around is None:
            raise ConfigError("region.radius is the radius of a sphere around region.around, which is not given")
        if self.heights is not None and (len(self.heights) != 2 or not 0 < self.heights[0] <= self.heights[1]):
            raise ConfigError(
                "region.heights must be two numbers above 0, the least and the largest height over the surface in A; "
                f"got {self.heights}"
            )
        if self.sphere is not None and (len(self.sphere) != 4 or not self.sphere[3] >= 0):
            raise ConfigError(
                f"region.sphere must be x, y, z and a radius that is not negative, in A; got {self.sphere}"
            )
        if self.box is not None and len(self.box) != 6:
            raise ConfigError(f"region.box must be x, y, z of two corners in A; got {self.box}")


@dataclass(frozen=True)
class DockSettings:
    """A search for poses of a molecule.

    Args:
        ligand: The molecule: an SDF, MOL or structure file, or a SMILES string.
        model: Model file; the base model that comes with the package, for small molecules, if neither a model nor a
            calculator is given.
        calculator: Calculator to use instead of a model, for one pose after the other: "gfn2-xtb", "gfn2-xtb+steele",
            "emt", "lj" or "module:Class" for any ASE calculator. The module, which may be a file in the working folder,
            is imported, which runs it.
        host: "surface", for a model that knows a surface without atoms; "face", for one that knows a crystal face,
            whose first lattice vector is then along x; "site", for one that knows a site, which is then at the origin;
            or a structure file of a slab, cluster or protein, which is held
            fixed. With a calculator, a surface without atoms is taken for a flat wall normal to z ("Cinfv"): poses
            related by rotations, mirrors and shifts along it are the same.
        region: Where poses begin.
        poses: Number of poses.
        conformers: Number of conformers from which they begin.
        fmax: A pose is converged when no force exceeds this, in eV/A. A surface exerts a small force on each atom: at
            0.02 poses may still be far from a minimum.
        steps: Largest number of steps of a relaxation.
        pocket: Atoms of the host farther than this from all places where a ligand may begin are left out, in A;
            residues are kept whole. If not given, it is 8 A for a calculator and, for a model, twice its number of
            layers times its cutoff, beyond which atoms change no difference of energies.
        distinct: Poses closer than this are the same, by the root mean square distance of heavy atoms in A.
        keep: Number of distinct poses to write.
        batch_atoms: Largest number of atoms in one call of the model.
        seed: Random seed of conformers and places.
        output: Folder for everything that is written; a search that was killed continues from there.
        overwrite: Replace the search in ``output``.
        device: ``auto`` (a GPU if available), ``cpu``, ``cuda``, or one of several GPUs, such as ``cuda:1``.
        compile: Compile the model first.
        progress: Show a progress bar.
        plots: Draw energies and the best poses.

    Raises:
        ConfigError: A setting is out of range.

    Example:
        >>> DockSettings("c1ccccc1", "graphite.safetensors").host
        'surface'
    """

    ligand: str
    model: str | None = None
    host: str = "surface"
    calculator: str | None = None
    region: RegionSettings = field(default_factory=RegionSettings)
    poses: Count = 100
    conformers: Count = 5
    fmax: Positive = 0.005
    steps: CountOrZero = 500
    pocket: Positive | None = None
    distinct: Positive = 0.5
    keep: Count = 10
    batch_atoms: Count = 2000
    seed: Seed = 0
    output: str = "dock"
    overwrite: bool = False
    device: str = "auto"
    compile: bool = False
    progress: bool = True
    plots: bool = True

    def __post_init__(self) -> None:
        check_settings(self)
        if self.model is not None and self.calculator is not None:
            raise ConfigError("give a model or a calculator, not both")

    def identity(self) -> dict[str, Any]:
        """The settings that must stay the same when the search is continued; files are compared by their content."""
        values = {name: value for name, value in asdict(self).items() if name not in CHANGEABLE}
        values["region"]["around"] = _content(self.region.around)
        return values | {name: _content(values[name]) for name in ("ligand", "model", "host")}


def _content(source: str | None) -> str | None:
    """A hash of a file; anything else, such as SMILES, as it is."""
    try:
        if source is None or not is_file(model_path(source)):
            return source
        return f"sha256 {file_digest(model_path(source))}"
    except (OSError, ModelFileError):
        return source
