"""The state of a search on disk, so that one that was killed continues."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ik_e3nn.errors import DataError
from ik_e3nn.npz_file import read_npz, write_npz
from ik_e3nn_calculators.dock.search.relax import RelaxState

_log = logging.getLogger(__name__)

STATE = "state.npz"


@dataclass(frozen=True)
class StateFile:
    """Where the state of a search is kept.

    Args:
        folder: The folder of the search.
        identity: What a continued search must have in common with the one that it continues.
    """

    folder: Path
    identity: dict[str, Any]

    def write(self, state: RelaxState, kinds: NDArray[np.int64]) -> None:
        """Everything that a continued search needs, at once or not at all."""
        identity = np.array(json.dumps(self.identity, sort_keys=True))
        write_npz(self.folder / STATE, {"identity": identity, "kinds": kinds, **state.arrays()})

    def read(self) -> tuple[RelaxState, NDArray[np.int64]] | None:
        """The state of a search that was killed and the conformers of its poses; None where there is none.

        Raises:
            DataError: The file is broken or of another search.
        """
        file = self.folder / STATE
        if not file.exists() or (self.folder / "summary.json").exists():
            return None
        try:
            arrays: dict[str, Any] = read_npz(file)
            before, kinds = dict(json.loads(str(arrays.pop("identity")))), arrays.pop("kinds")
            state = RelaxState(**arrays)
        except (DataError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"{file} cannot be read ({error}); start anew with overwrite") from error
        now = json.loads(json.dumps(self.identity))
        if before != now:
            other = ", ".join(sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name)))
            raise DataError(
                f"{self.folder} holds another search (it differs in {other}); choose another output folder, or say "
                "--overwrite"
            )
        _log.info("continuing the search in %s", self.folder)
        return state, kinds
