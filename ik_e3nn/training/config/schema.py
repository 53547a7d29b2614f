"""The training configuration: these dataclasses are the YAML schema and the command-line options.

Every field is written ``section.field`` on the command line (``--run.max_epochs=50``) and as a nested key in YAML.
The ``model`` section holds the arguments of ``ik_e3nn.models.InteratomicPotential``, or of ``MolecularPropertyModel``
where ``data.targets`` is given; they are checked against the signature.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from ik_e3nn.errors import ConfigError
from ik_e3nn.settings import (
    Count,
    CountOrZero,
    NotNegative,
    Positive,
    Range,
    Seed,
    Share,
    check_settings,
    refuse_unused,
)
from ik_e3nn.training.config.limits import BatchLimits

if TYPE_CHECKING:
    from ik_e3nn.targets import Target

# Settings of data and loss that have no effect if a target is not predicted, by target.
OF_TARGETS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "energy": (("isolated_atoms", "E0s", "energy_key"), ("energy_weight", "energy_growth", "energy_per_atom")),
    "forces": (("forces_key",), ("forces_weight",)),
    "stress": (("stress_key", "virial_key"), ("stress_weight",)),
}
OF_MECHANICS = ("energy_unit", "length_unit")  # without effect if no target is energy, forces or stress
OF_PROPERTIES = ("bonds", "on_failure")  # without effect unless data.targets is given
USUAL_LR = 0.05


Fraction = Annotated[float, Range("a fraction between 0 and 1", lambda x: 0 < x < 1)]


@dataclass(frozen=True)
class DataConfig:
    """Structures and their labels: energy, forces and stress, or the properties named in ``targets``.

    Args:
        train: Structures to train on: a file, glob, folder or list of these, in any format that ASE reads, also
            gzipped. For properties also CSV with SMILES, SDF, and QM9 in any of its forms.
        valid: Validation set: files as for ``train``, or the fraction (below 1) or number of training structures to set
            aside.
        test: Test set, to measure the final model; given like ``valid``, null for none.
        targets: What the model predicts; null means energy, forces and stress. Give names of QM9 targets (mu alpha homo
            lumo gap r2 zpve U0 U H G Cv U0_atom U_atom H_atom G_atom), or your own targets with kind and unit:
            {solubility: intensive log(mol/L)}, or {solubility: {kind: intensive, unit: log(mol/L)}}. Kinds are
            extensive, intensive, dipole, dipole_norm, polarizability, spatial_extent and any that you have defined.
            Energy, forces and stress can be among them: {energy: energy, forces: forces, mu: dipole D}. Values may be
            missing.
        isolated_atoms: Files with isolated atoms, which are used only for E0s.
        E0s: "fit" (from isolated atoms if the data have any, otherwise by least squares) or eV per element, {H: -13.6}.
        energy_key: Name of the energy label.
        forces_key: Name of the forces label.
        stress_key: Name of the stress label.
        virial_key: Name of a virial label, used for structures without a stress label.
        energy_unit: Unit of energy in the labels, also in forces and stress.
        length_unit: Unit of length in forces and stress; positions are always in A.
        cache: Folder for neighbor lists in memory-mapped files, for data that do not fit into memory or to start later
            runs faster; null keeps them in memory. The folder may be deleted at any time.
        split: How structures are set aside: at random with ``run.seed``, or as in the QM9 table of the paper (numpy's
            seed 0).
        train_size: Train only on this many structures, the first of the training part.
        bonds: Source of the bonds of molecules with properties: the file ("given"), the SMILES, the geometry
            ("perceived"), or the first of these that is available ("auto").
        on_failure: If the bonds of a molecule cannot be found, stop with an error, skip the molecule, or use single
            bonds only. "skip" also leaves out rows with unreadable SMILES and molecules with positions that are not
            finite.
    """

    train: str | list[str]
    valid: Count | Fraction | str | list[str] = 0.1
    test: Count | Fraction | str | list[str] | None = None
    targets: dict[str, Any] | list[str] | None = None
    isolated_atoms: str | list[str] | None = None
    E0s: Literal["fit"] | dict[str, float] = "fit"
    energy_key: str = "REF_energy"
    forces_key: str = "REF_forces"
    stress_key: str = "REF_stress"
    virial_key: str | None = None
    energy_unit: Literal["eV", "Ha", "kcal/mol", "kJ/mol"] = "eV"
    length_unit: Literal["ang", "bohr"] = "ang"
    cache: str | None = None
    split: Literal["random", "paper"] = "random"
    train_size: Count | None = None
    bonds: Literal["auto", "given", "smiles", "perceived"] = "auto"
    on_failure: Literal["error", "skip", "single"] = "error"

    def __post_init__(self) -> None:
        check_settings(self, "data")


@dataclass(frozen=True)
class LossConfig:
    """The loss: a weighted sum of the mean losses of all labeled energies, force components, stresses and properties.

    Args:
        kind: Squared error, absolute error, or Huber loss (half the squared error up to ``huber_delta``, then linear).
        energy_weight: Weight of the energies at the start (errors in eV, or eV/atom with ``energy_per_atom``); 0
            ignores them.
        energy_growth: Factor by which the energy weight grows, exponentially, until the end of the run (``max_epochs``
            or ``max_minutes``); 1 keeps it constant. The reported losses of training and validation use the final
            weight. A model learns most from the many force components; the few energies are fitted best once it has.
            The weight does not grow if neither forces nor stress are trained.
        forces_weight: Weight of the forces (errors in eV/A); 0 ignores them.
        stress_weight: Weight of the stress (errors in eV/A^3); 0 ignores it.
        energy_per_atom: Divide energy errors by the number of atoms.
        huber_delta: Error at which the Huber loss turns from quadratic to linear, in the units of each term. null means
            0.01 for energy, forces and stress, and 0.05 for properties, whose errors are in units of their spread.
        weights: Weights of properties by name, if not 1; 0 ignores a property. Their weighted mean enters the loss.
    """

    kind: Literal["mse", "mae", "huber"] = "huber"
    energy_weight: NotNegative = 1.0
    energy_growth: Positive = 100.0
    forces_weight: NotNegative = 100.0
    stress_weight: NotNegative = 0.0
    energy_per_atom: bool = True
    huber_delta: Positive | None = None
    weights: dict[str, NotNegative] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_settings(self, "loss")
        if self.kind != "huber":
            refuse_unused(self, ["huber_delta"], f"loss.kind is {self.kind!r}, not 'huber'", section="loss")

    def check_weights(self, properties: Collection[str]) -> None:
        """Raise for a weight of something other than a property.

        Args:
            properties: Names of the properties that are predicted.

        Raises:
            ConfigError: Names what has a weight and is no property.
        """
        unknown = sorted(set(self.weights) - set(properties))
        if unknown:
            raise ConfigError(
                f"loss.weights names {', '.join(unknown)}; the properties are {', '.join(properties) or 'none'}"
            )


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with warm-up, a learning-rate schedule and a moving average of the weights.

    Args:
        lr: Learning rate after the warm-up. null means 0.05, for fine-tuning a potential 0.01, of surroundings alone
            0.001, because their field is fitted before, and for fine-tuning with ``data.targets`` 0.02.
        weight_decay: Decoupled weight decay.
        amsgrad: Use the AMSGrad variant.
        warmup_steps: Optimizer steps over which the learning rate rises linearly to ``lr``.
        schedule: Learning rate after the warm-up: a cosine over the whole run, lowered whenever the validation loss
            stops improving ("plateau"), or constant.
        min_lr_ratio: Lowest learning rate of the schedule, as a fraction of ``lr``.
        plateau_factor: Factor by which the learning rate is lowered on a plateau.
        plateau_patience: Epochs without a better validation loss before the learning rate is lowered.
        ema_decay: Decay per step of the moving average of the weights; 0 switches it off.
        clip_grad: Largest gradient norm, in units of the root mean square of the norm over about the last hundred steps
            (above 1); null for no clipping.
    """

    lr: Positive | None = None
    weight_decay: NotNegative = 0.0
    amsgrad: bool = True
    warmup_steps: CountOrZero = 100
    schedule: Literal["cosine", "plateau", "constant"] = "cosine"
    min_lr_ratio: Share = 0.01
    plateau_factor: Fraction = 0.5
    plateau_patience: CountOrZero = 10
    ema_decay: Annotated[float, Range("at least 0 and below 1", lambda x: 0 <= x < 1)] = 0.99
    clip_grad: Annotated[float, Range("above 1, in units of the usual norm", lambda x: x > 1)] | None = 3.0

    def __post_init__(self) -> None:
        check_settings(self, "optimizer")
        unused = {
            "cosine": ("plateau_factor", "plateau_patience"),
            "plateau": (),
            "constant": ("plateau_factor", "plateau_patience", "min_lr_ratio"),
        }[self.schedule]
        refuse_unused(self, unused, f"optimizer.schedule is {self.schedule!r}", section="optimizer")

    @property
    def rate(self) -> float:
        """The learning rate after the warm-up; if none is given, the default for training from scratch.

        >>> OptimizerConfig().rate
        0.05
        """
        return USUAL_LR if self.lr is None else self.lr


@dataclass(frozen=True)
class RunConfig:
    """Output, length, batches and hardware of a run.

    Args:
        output: Folder for everything the run writes.
        overwrite: Replace an earlier run in that folder.
        max_epochs: Passes over the training set.
        max_minutes: Time limit for training and validation, without compilation. The cosine schedule ends with
            whichever limit comes first.
        clock: Time that ``max_minutes`` limits: wall time, or the processor time of this process divided by its number
            of threads, which does not grow when other programs keep the machine busy.
        patience: Stop after this many epochs without a better validation loss. This cuts off the cosine schedule and
            the growth of the energy weight, which are planned for the whole run.
        batch_size: Structures per optimizer step, over all processes together.
        max_atoms: Most atoms in a batch, per process.
        max_edges: Most edges (neighbors of all atoms) in a batch, per process; memory grows with them. A structure
            larger than a limit makes a batch of its own.
        seed: Seed of the weights, the split and the order of batches.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, or one of several GPUs, such as ``cuda:1``.
        dtype: Precision of weights and activations.
        compile: Compile the training step of a potential first. This takes a minute or two (ten seconds if done
            before), and each step then takes two thirds to three quarters of the time; ``auto`` does so on a CPU if the
            run is long enough to save more than that.
        num_processes: Data-parallel processes (one GPU each, or CPU with gloo).
        num_threads: CPU threads per process; null means one for about every 500 edges of a step, at most torch's
            default.
        progress: Show a progress bar.
    """

    output: str = "run"
    overwrite: bool = False
    max_epochs: Count = 100
    max_minutes: Positive | None = None
    clock: Literal["wall", "cpu"] = "wall"
    patience: Count | None = None
    batch_size: Count = 8
    max_atoms: Count | None = None
    max_edges: Count | None = None
    seed: Seed = 0
    device: str = "auto"
    dtype: Literal["float32", "float64"] = "float32"
    compile: bool | Literal["auto"] = "auto"
    num_processes: Count = 1
    num_threads: Count | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        check_settings(self, "run")
        if self.max_minutes is None:
            refuse_unused(self, ["clock"], "run.max_minutes is not given", section="run")
        kind, colon, _ = self.device.partition(":")
        if colon and self.num_processes > 1:
            raise ConfigError(
                f"run.device is {self.device!r}, one device, but run.num_processes is {self.num_processes}: set "
                f"run.device to {kind!r}, or leave one of the two settings out"
            )

    @property
    def limits(self) -> BatchLimits:
        """How large batches may become.

        >>> RunConfig(batch_size=4, max_edges=2000).limits
        BatchLimits(batch_size=4, max_atoms=None, max_edges=2000)
        """
        return BatchLimits(self.batch_size, self.max_atoms, self.max_edges)


@dataclass(frozen=True)
class TrainConfig:
    """Everything a training run needs.

    Args:
        data: Structures and their labels.
        model: Arguments of ``InteratomicPotential``, or of ``MolecularPropertyModel`` if ``data.targets`` is given;
            species and targets come from the data.
        loss: What is minimized.
        optimizer: How it is minimized.
        run: Output, length, batches and hardware.
    """

    model_is_given: ClassVar[bool] = False  # whether the arguments of the model come from a model file

    data: DataConfig
    model: dict[str, Any] = field(default_factory=dict)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.optimizer.lr is None:
            object.__setattr__(self, "optimizer", replace(self.optimizer, lr=self._usual_lr))
        self._check_targets()

    @property
    def targets(self) -> tuple[Target, ...]:
        """The targets to predict.

        Raises:
            ConfigError: ``data.targets`` names an unknown target.
        """
        from ik_e3nn.data.properties.reading import resolve_targets  # torch, which takes seconds to import
        from ik_e3nn.targets import MECHANICS

        return MECHANICS if self.data.targets is None else resolve_targets(self.data.targets)

    @property
    def trained(self) -> tuple[str, ...]:
        """Which of energy, forces and stress have a weight in the loss.

        >>> TrainConfig(DataConfig("a.xyz")).trained
        ('energy', 'forces')
        """
        names = [target.name for target in self.targets if target.field is not None]
        return tuple(name for name in names if getattr(self.loss, f"{name}_weight") > 0)

    @property
    def _usual_lr(self) -> float:
        """The learning rate if none is given."""
        return USUAL_LR

    def _check_targets(self) -> None:
        """Raise for settings that belong to other targets than those of the configuration, or to none.

        Raises:
            ConfigError: Names the setting.
        """
        names = [target.name for target in self.targets]
        properties = [target.name for target in self.targets if target.field is None]
        weighted = [*self.trained, *(name for name in properties if self.loss.weights.get(name, 1.0))]
        if not weighted and not (properties and self.model_is_given):  # the base may have other targets
            raise ConfigError("loss: all weights are zero; give at least one of them a positive weight.")
        none = "none of data.targets is energy, forces or stress" if len(properties) == len(names) else ""
        if none:
            refuse_unused(self.data, OF_MECHANICS, none, section="data")
        for name in OF_TARGETS.keys() - names if none or not self.model_is_given else ():
            data, loss = OF_TARGETS[name]
            refuse_unused(self.data, data, none or f"{name} is not among data.targets", section="data")
            refuse_unused(self.loss, loss, none or f"{name} is not among data.targets", section="loss")
        if not self.model_is_given:
            self.loss.check_weights(properties)
            if not {"forces", "stress"}.intersection(self.trained):
                reason = "neither forces nor stress are trained"
                refuse_unused(self.loss, ("energy_growth",), reason, section="loss")
        if self.data.targets is None:
            refuse_unused(self.data, OF_PROPERTIES, "data.targets is not given", section="data")
