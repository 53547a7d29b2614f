"""A word on structures that a model was not trained on."""

import logging
import re

from ase import Atoms

from ik_e3nn.models.domain import Domain

_log = logging.getLogger(__name__)


def warn_outside(domain: Domain | None, atoms: Atoms, said: set[str]) -> None:
    """Warn of what in a structure the model was not trained on.

    Args:
        domain: What it was trained on; None where that is not known.
        atoms: The structure.
        said: What was said before, numbers aside, not to be said again; what is new is added.
    """
    reasons = {} if domain is None else {re.sub(r"\d+", "", reason): reason for reason in domain.outside(atoms)}
    new = [reason for kind, reason in reasons.items() if kind not in said]
    if new:
        said.update(reasons)
        _log.warning(
            "the model was not trained on structures like %s: %s. Its energies and forces may be far off; compare some "
            "with a reference, or fine-tune the model",
            atoms.get_chemical_formula(),
            "; ".join(new),
        )
