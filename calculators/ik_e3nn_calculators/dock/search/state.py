"""The state of a search on disk, from which a killed search continues."""

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
    """The file that holds the state of a search.

    Args:
        folder: The folder of the search.
        identity: The settings that must stay the same when the search is continued.
    """

    folder: Path
    identity: dict[str, Any]

    def write(self, state: RelaxState, kinds: NDArray[np.int64]) -> None:
        """Write, atomically, everything that a continued search needs."""
        identity = np.array(json.dumps(self.identity, sort_keys=True))
        write_npz(self.folder / STATE, {"identity": identity, "kinds": kinds, **state.arrays()})

    def read(self) -> tuple[RelaxState, NDArray[np.int64]] | None:
        """Read the state of a killed search and the conformers of its poses; None if there is none.

        Raises:
            DataError: The file is broken or belongs to another search.
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
                f"{self.folder} holds another search (it differs in {other}); choose another output folder, or give "
                "--overwrite"
            )
        _log.info("continuing the search in %s", self.folder)
        return state, kinds
