"""The named point groups as data: Schoenflies symbol -> generators, for a main axis along z.

Secondary twofold axes lie along x, vertical mirrors contain x and z; cubic groups have twofold axes along x, y, z.
"""

import math
import re

import torch
from torch import Tensor

IRRATIONAL_ANGLE = math.pi * (5**0.5 - 1)  # a turn times the golden ratio: no multiple comes close to a full turn

ALIASES = {
    "SO(3)": "SO3", "K": "SO3", "O(3)": "O3", "KH": "O3", "SO(2)": "SO2", "CINF": "SO2", "C∞": "SO2",
    "O(2)": "CINFV", "O2": "CINFV", "C∞V": "CINFV", "C∞H": "CINFH", "D∞": "DINF", "D∞H": "DINFH",
    "TRIVIAL": "C1", "E": "C1", "S2": "CI", "C1H": "CS", "C1V": "CSV",
}  # fmt: skip

NAMED_GROUPS = (
    "C1, Ci, Cs, C_n, C_nv, C_nh, D_n, D_nh, D_nd, S_2n (n >= 1), T, Td, Th, O, Oh, I, Ih, "
    "SO2, Cinfv (= O2), Cinfh, Dinf, Dinfh, SO3, O3"
)


def rotation(axis: tuple[float, float, float], angle: float) -> Tensor:
    """Rotation matrix (3, 3), float64, about an axis by an angle in radian."""
    from scipy.spatial.transform import Rotation

    vector = torch.tensor(axis, dtype=torch.float64)
    return torch.from_numpy(Rotation.from_rotvec((vector / vector.norm() * angle).numpy()).as_matrix())


def turn(n: float) -> Tensor:
    """Rotation about z by a full turn over n."""
    return rotation((0.0, 0.0, 1.0), 2 * math.pi / n)


def diagonal(*entries: float) -> Tensor:
    """Diagonal matrix, float64."""
    return torch.diag(torch.tensor(entries, dtype=torch.float64))


INVERSION = diagonal(-1, -1, -1)
HORIZONTAL_MIRROR = diagonal(1, 1, -1)
VERTICAL_MIRROR = diagonal(1, -1, 1)
TWOFOLD_X = diagonal(1, -1, -1)
TWOFOLD_Z = diagonal(-1, -1, 1)
THREEFOLD_111 = torch.tensor([[0, 0, 1], [1, 0, 0], [0, 1, 0]], dtype=torch.float64)
FOURFOLD = turn(4)
FIVEFOLD = rotation((0.0, 1.0, (1 + 5**0.5) / 2), 2 * math.pi / 5)
ANY_Z = rotation((0.0, 0.0, 1.0), IRRATIONAL_ANGLE)
ANY_X = rotation((1.0, 0.0, 0.0), IRRATIONAL_ANGLE)

FIXED = {
    "C1": [], "CI": [INVERSION], "CS": [HORIZONTAL_MIRROR], "CSV": [VERTICAL_MIRROR],
    "T": [TWOFOLD_Z, THREEFOLD_111], "TH": [TWOFOLD_Z, THREEFOLD_111, INVERSION],
    "TD": [HORIZONTAL_MIRROR @ FOURFOLD, THREEFOLD_111],
    "O": [FOURFOLD, THREEFOLD_111], "OH": [FOURFOLD, THREEFOLD_111, INVERSION],
    "I": [TWOFOLD_Z, THREEFOLD_111, FIVEFOLD], "IH": [TWOFOLD_Z, THREEFOLD_111, FIVEFOLD, INVERSION],
    "SO2": [ANY_Z], "CINFV": [ANY_Z, VERTICAL_MIRROR], "CINFH": [ANY_Z, HORIZONTAL_MIRROR],
    "DINF": [ANY_Z, TWOFOLD_X], "DINFH": [ANY_Z, TWOFOLD_X, HORIZONTAL_MIRROR],
    "SO3": [ANY_Z, ANY_X], "O3": [ANY_Z, ANY_X, INVERSION],
}  # fmt: skip


def generators_of(name: str) -> Tensor:
    """Generators of a named group with its main axis along z.

    Args:
        name: Schoenflies symbol or alias; case and underscores do not matter: "C4v", "C_4v", "SO(2)", "Cinfv".

    Returns:
        Tensor (k, 3, 3), float64; k is 0 for the trivial group.

    Raises:
        ValueError: The name is unknown.

    Example:
        >>> generators_of("C4v").shape
        torch.Size([2, 3, 3])
    """
    key = name.replace("_", "").upper()
    key = ALIASES.get(key, key)
    if key in FIXED:
        matrices = FIXED[key]
    elif match := re.fullmatch(r"([CDS])(\d+)([VHD]?)", key):
        matrices = _family(name, match[1] + match[3], int(match[2]))
    else:
        raise ValueError(f"unknown symmetry group {name!r}: expected one of {NAMED_GROUPS}")
    return torch.stack(matrices) if matrices else torch.zeros(0, 3, 3, dtype=torch.float64)


def _family(name: str, family: str, n: int) -> list[Tensor]:
    """Generators of C_n, C_nv, C_nh, D_n, D_nh, D_nd and S_2n."""
    if n < 1 or (family == "S" and n % 2) or family in ("SV", "SH", "SD", "CD", "DV"):
        hint = f"; S_n with odd n is C_{n}h" if family == "S" else ""
        raise ValueError(f"unknown symmetry group {name!r}: expected one of {NAMED_GROUPS}{hint}")
    return {
        "C": [turn(n)],
        "CV": [turn(n), VERTICAL_MIRROR],
        "CH": [turn(n), HORIZONTAL_MIRROR],
        "D": [turn(n), TWOFOLD_X],
        "DH": [turn(n), TWOFOLD_X, HORIZONTAL_MIRROR],
        "DD": [HORIZONTAL_MIRROR @ turn(2 * n), TWOFOLD_X],
        "S": [HORIZONTAL_MIRROR @ turn(n)],
    }[family]
