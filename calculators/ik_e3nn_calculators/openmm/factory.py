"""The potential ``ik_e3nn`` of ``openmmml``, which finds it through its entry points.

Every ``import openmmml`` imports this module, so torch and the rest of this package are imported when they are used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from openmmml.mlpotential import MLPotentialImpl, MLPotentialImplFactory

if TYPE_CHECKING:
    import torch

    from ik_e3nn_calculators.calculator.model import ModelLike

_OF_EMBEDDING = ("mlLongRange", "linkAtomDistances")  # arguments of createMixedSystem, which arrive here too
_NO_MODEL = (
    'MLPotential("ik_e3nn") got no model; expected model=..., a model file, a potential, a list of them for a '
    'committee, or "base", the base model that comes with the package'
)


class IKPotentialFactory(MLPotentialImplFactory):
    """Makes the potentials of ``MLPotential("ik_e3nn", ...)``."""

    def createImpl(self, name: str, model: ModelLike | None = None, **options: Any) -> IKPotential:  # noqa: N802
        """The potential of a model.

        Args:
            name: Name of the potential, "ik_e3nn".
            model: See ``IKPotential``.
            **options: See ``IKPotential``.

        Raises:
            TypeError: There is no model, or an unknown option.
        """
        if model is None:
            raise TypeError(_NO_MODEL)
        _check_names(f'MLPotential("{name}", ...)', options, ("model", "device", "dtype", "compile", "max_edges"))
        return IKPotential(model, **options)


class IKPotential(MLPotentialImpl):
    """A model in OpenMM: ``MLPotential("ik_e3nn", model=..., ...)``.

    Args:
        model: A model file, ``"base"`` for the base model that comes with the package, or a potential; a list of them
            makes a committee, whose mean is used. The potential keeps a copy.
        device: ``"cpu"``, ``"cuda"``, ... or ``"auto"``: a GPU if available. It need not be that of OpenMM's platform.
        dtype: ``"float32"`` or ``"float64"``; None keeps the model's.
        compile: Compile the model at the first step, see ``ik_e3nn.models.compile_potential``.
        max_edges: Number of edges to process at once, which limits the memory of large systems; None for all.

    Raises:
        ModelFileError: The model file is missing, broken or newer than this library.
        DataError: The model has no energies, or has an input that OpenMM cannot give it.
        ConfigError: An option has a wrong value.
    """

    def __init__(
        self,
        model: ModelLike,
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype | None = None,
        compile: bool = False,  # noqa: A002  (torch's word for it)
        max_edges: int | None = None,
    ) -> None:
        from ik_e3nn_calculators.openmm.stored import StoredPotential

        self._stored = StoredPotential.of(model, device=device, dtype=dtype, compile=compile, max_edges=max_edges)

    def getMLLongRange(self) -> bool:  # noqa: N802
        """No: edges end at the cutoff."""
        return False

    def addForces(  # noqa: N802
        self,
        topology: Any,
        system: Any,
        atoms: Iterable[int] | None,
        forceGroup: int,
        **options: Any,
    ) -> None:
        """Add the potential to a system; ``createSystem`` and ``createMixedSystem`` call this.

        Args:
            topology: Topology of the system, with link atoms if bonds to classical atoms were cut.
            system: The system.
            atoms: Indices of the atoms that the model computes, or None for all.
            forceGroup: Group of the forces.
            **options: ``charge``, ``spin``, ``periodic`` and ``subtract_e0``, see ``add_forces``.

        Raises:
            TypeError: There is an unknown option.
            IKError: The model cannot compute these atoms, see ``add_forces``.
        """
        from ik_e3nn_calculators.openmm.system import add_forces

        names = ("charge", "spin", "periodic", "subtract_e0")
        called = "createSystem" if atoms is None else "createMixedSystem"
        used = options if atoms is None else {k: v for k, v in options.items() if k not in _OF_EMBEDDING}
        _check_names(f"{called} of ik_e3nn", used, names)
        chosen = None if atoms is None else [int(index) for index in atoms]
        add_forces(self._stored, topology, system, chosen, forceGroup, **used)


def _check_names(what: str, given: Collection[str], known: Collection[str]) -> None:
    """Refuse unknown options, which openmmml would pass on in silence."""
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise TypeError(f"{what} has no argument {unknown[0]!r}; arguments are {', '.join(known)}")
