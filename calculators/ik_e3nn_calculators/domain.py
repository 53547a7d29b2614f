"""A word on structures that a model was not trained on."""

import logging

from ase import Atoms
from torch import nn

from ik_e3nn.models.domain import Domain

_log = logging.getLogger(__name__)


def domain_of_model(model: nn.Module) -> Domain | None:
    """What a potential, or the first of a committee, was trained on, as far as its file says."""
    first = next(iter(getattr(model, "members", None) or [model]))
    domain = getattr(first, "trained_on", None)
    return domain if isinstance(domain, Domain) else None


def warn_outside(domain: Domain | None, atoms: Atoms, said: set[str]) -> None:
    """Warn of what in a structure the model was not trained on.

    Args:
        domain: What it was trained on; None where that is not known.
        atoms: The structure.
        said: What was said before, not to be said again; what is new is added.
    """
    new = [] if domain is None else [reason for reason in domain.outside(atoms) if reason not in said]
    if new:
        said.update(new)
        _log.warning(
            "the model was not trained on structures like %s: %s. Its energies and forces may be far off; compare some "
            "with a reference, or fine-tune the model",
            atoms.get_chemical_formula(),
            "; ".join(new),
        )
