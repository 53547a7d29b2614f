"""Settings of a molecular-dynamics run, with units; they are checked when they are created."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ik_e3nn.settings import Count, CountOrZero, NotNegative, Positive, check_settings, refuse_unused
from ik_e3nn_calculators.run_settings import RunSettings

# Settings that may change when a run is continued: length, place and output, but never the physics.
CHANGEABLE = frozenset(
    {
        "structure",
        "frame",
        "model",
        "steps",
        "time_ps",
        "output",
        "log_interval",
        "frame_interval",
        "checkpoint_interval",
        "restart",
        "overwrite",
        "device",
        "progress",
        "plots",
        "limits",
    }
)

DEFAULT_PS = 10.0


@dataclass(frozen=True)
class ExplosionLimits:
    """Limits of the physical range, beyond which dynamics is stopped.

    Args:
        temperature: Highest temperature in K; None means ten times the target, but at least 5000 K.
        displacement: Largest displacement of an atom in one step, in A.
        contact: Shortest distance of two atoms, in units of the sum of their covalent radii.
        leaving: Stop when an atom that had neighbors within the model's cutoff at the start has lost all of them.

    Raises:
        ValueError: A limit is not positive.
    """

    temperature: Positive | None = None
    displacement: Positive = 0.5
    contact: Positive = 0.4
    leaving: bool = True

    def __post_init__(self) -> None:
        check_settings(self, "limits")

    def hottest(self, target: float) -> float:
        """The temperature limit in K for a run at ``target`` K.

        Example:
            >>> ExplosionLimits().hottest(300.0), ExplosionLimits().hottest(2000.0)
            (5000.0, 20000.0)
        """
        return max(10.0 * target, 5000.0) if self.temperature is None else self.temperature


@dataclass(frozen=True)
class MDSettings(RunSettings):
    """A molecular-dynamics run.

    Give the length as ``steps`` or as ``time_ps``; it is 10 ps by default. Initial velocities are Maxwell-Boltzmann at
    ``temperature``; if the dynamics conserves momentum (``nve``), they have no drift and, for molecules, no rotation.
    If a constant-energy run starts from a relaxed structure, half of the kinetic energy becomes potential: equilibrate.

    The structure, the model and the output are settings of ``RunSettings``.

    Args:
        ensemble: ``nve`` (velocity Verlet), ``langevin`` (constant temperature), or ``npt`` (constant temperature and
            pressure: Langevin atoms and an isotropic Langevin barostat; needs three periodic directions).
        steps: Number of steps after equilibration; 0 only evaluates the starting structure.
        time_ps: Length after equilibration in ps, instead of ``steps``; 10 ps if neither is given.
        timestep: Time step in fs.
        temperature: Temperature in K, of the initial velocities and of the thermostat.
        pressure: Pressure in GPa, for ``npt``.
        friction: Friction of the thermostat in 1/ps.
        barostat_ps: Response time of the barostat in ps, for ``npt``.
        equilibrate_ps: Langevin dynamics before the run proper, in ps; logged at negative times.
        velocities: ``thermal``, or ``file`` to keep the momenta in the structure file.
        relax_fmax: Relax the structure first until no force exceeds this, in eV/A; None to skip this.
        log_interval: Steps between rows of ``log.csv``.
        frame_interval: Steps between frames of the trajectory.
        checkpoint_interval: Steps between checkpoints; a killed run loses no more than this.
        restart: Continue the run in ``output`` from its last checkpoint; starts anew if there is none.
        limits: Limits beyond which the run is stopped as an explosion.

    Raises:
        ValueError: A setting is out of range or has no effect in the ensemble, both ``steps`` and ``time_ps`` are
            given, or a length in ps is less than half a time step.

    Example:
        >>> MDSettings("CCO", "model.safetensors", time_ps=5.0).num_steps
        10000
    """

    ensemble: Literal["nve", "langevin", "npt"] = "nve"
    steps: CountOrZero | None = None
    time_ps: NotNegative | None = None
    timestep: Positive = 0.5
    temperature: NotNegative = 300.0
    pressure: float = 0.0
    friction: Positive = 10.0
    barostat_ps: Positive = 1.0
    equilibrate_ps: NotNegative = 0.0
    velocities: Literal["thermal", "file"] = "thermal"
    relax_fmax: Positive | None = None
    log_interval: Count = 10
    frame_interval: Count = 50
    checkpoint_interval: Count = 500
    restart: bool = False
    limits: ExplosionLimits = field(default_factory=ExplosionLimits)
    output: str = field(default="md", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps is not None and self.time_ps is not None:
            raise ValueError(f"give either steps or time_ps, got steps={self.steps} and time_ps={self.time_ps}")
        for name, length, count in (
            ("time_ps", self.time_ps, self.num_steps),
            ("equilibrate_ps", self.equilibrate_ps, self.num_equilibration_steps),
        ):
            if length and not count:
                raise ValueError(
                    f"{name}={length:g} is less than half a time step of {self.timestep:g} fs, so that no step would "
                    "be made; ask for a longer time or for shorter steps"
                )
        self._refuse_of_other_ensembles()
        if self.restart and self.overwrite:
            raise ValueError("restart continues a run and overwrite replaces it; choose one")

    def _refuse_of_other_ensembles(self) -> None:
        """Raise for settings that only other ensembles use, if they are changed from their defaults."""
        reason = f"ensemble is {self.ensemble!r}"
        if self.ensemble != "npt":
            only = f"{reason} and only 'npt' uses it"
            refuse_unused(self, ("pressure", "barostat_ps"), only, advice="set ensemble to 'npt'")
        if self.ensemble == "nve" and not self.equilibrate_ps:
            only = f"{reason} without equilibrate_ps, and only 'langevin', 'npt' and an equilibration use it"
            refuse_unused(self, ("friction",), only, advice="set ensemble to 'langevin'")

    @property
    def num_steps(self) -> int:
        """Steps after equilibration."""
        if self.steps is not None:
            return int(self.steps)
        return round(1000.0 * (DEFAULT_PS if self.time_ps is None else self.time_ps) / self.timestep)

    @property
    def num_equilibration_steps(self) -> int:
        """Steps of equilibration."""
        return round(1000.0 * self.equilibrate_ps / self.timestep)

    def physics(self) -> dict[str, Any]:
        """The settings that must stay the same when the run is continued."""
        # with "auto", the checkpoint knows the code
        free = CHANGEABLE | ({"compile"} if self.compile == "auto" else frozenset())
        return {name: value for name, value in asdict(self).items() if name not in free}
