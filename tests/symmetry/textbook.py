"""What any textbook says about the point groups: classes of elements, characters, Haar averages, membership.

Nothing here uses the code under test: a group is a list of (determinant, angle) with multiplicities, where an improper
element is minus the rotation by that angle; a continuous one is a list of such families of angles.
"""

import functools
import math

import numpy as np
import torch
from e3nn import o3

FAMILY_ORDERS = {"C{}": 1, "C{}v": 2, "C{}h": 2, "D{}": 2, "D{}h": 4, "D{}d": 4}  # times n
FINITE_AXIAL = tuple(form.format(n) for form in FAMILY_ORDERS for n in range(1, 9)) + tuple(
    f"S{2 * n}" for n in range(1, 9)
)
FINITE = ("Ci", "Cs", *FINITE_AXIAL, "T", "Td", "Th", "O", "Oh", "I", "Ih")
CONTINUOUS = ("SO2", "Cinfv", "Cinfh", "Dinf", "Dinfh", "SO3", "O3")
ALL = FINITE + CONTINUOUS
FEW = (
    "C1",
    "Ci",
    "Cs",
    "C3",
    "C4v",
    "C5h",
    "D3",
    "D6h",
    "D4d",
    "S8",
    "T",
    "Td",
    "Th",
    "O",
    "Oh",
    "I",
    "Ih",
    *CONTINUOUS,
)

L_MAX = 8
TURN = 2 * math.pi


def order(name: str) -> int:
    """Textbook order of a finite group."""
    cubic = {"Ci": 2, "Cs": 2, "T": 12, "Td": 24, "Th": 24, "O": 24, "Oh": 48, "I": 60, "Ih": 120}
    if name in cubic:
        return cubic[name]
    n = int("".join(c for c in name if c.isdigit()))
    return n if name[0] == "S" else n * FAMILY_ORDERS[name.replace(str(n), "{}")]


def classes(name: str) -> list[tuple[int, float, int]]:
    """(determinant, angle, number of elements) of a finite group; improper elements are -rotation(angle)."""
    rotations = [(1, 0.0, 1)]
    if name in ("Ci", "Cs"):
        return [*rotations, (-1, 0.0 if name == "Ci" else TURN / 2, 1)]
    if name in ("T", "Td", "Th"):
        rotations += [(1, TURN / 3, 8), (1, TURN / 2, 3)]
        # S4 = -C4, a mirror = -C2
        return rotations + {"T": [], "Th": _minus(rotations), "Td": [(-1, TURN / 4, 6), (-1, TURN / 2, 6)]}[name]
    if name in ("O", "Oh", "I", "Ih"):
        if name[0] == "O":
            rotations += [(1, TURN / 3, 8), (1, TURN / 2, 9), (1, TURN / 4, 6)]
        else:
            rotations += [(1, TURN / 5, 12), (1, 2 * TURN / 5, 12), (1, TURN / 3, 20), (1, TURN / 2, 15)]
        return rotations + (_minus(rotations) if name[-1] == "h" else [])
    n, kind = int("".join(c for c in name if c.isdigit())), name[-1] if name[-1].isalpha() else ""
    if name[0] == "S":  # powers of (mirror times turn by 1/n) = (-1 times turn by 1/n + 1/2)
        return [((-1) ** k, k * (TURN / n + TURN / 2), 1) for k in range(n)]
    cyclic = [(1, k * TURN / n, 1) for k in range(n)]
    proper = cyclic + ([(1, TURN / 2, n)] if name[0] == "D" else [])
    if kind == "v":
        return [*proper, (-1, TURN / 2, n)]
    if kind == "h":  # the mirror times a turn is minus the turn half a turn further; times a twofold axis, a mirror
        mirrored = [(-1, angle + TURN / 2, count) for _, angle, count in cyclic]
        return proper + mirrored + ([(-1, TURN / 2, n)] if name[0] == "D" else [])
    if kind == "d":
        return [*proper, *[(-1, (2 * k + 1) * TURN / (2 * n) + TURN / 2, 1) for k in range(n)], (-1, TURN / 2, n)]
    return proper


def _minus(rotations):
    return [(-det, angle, count) for det, angle, count in rotations]


def character(l, p, det, angle):
    """chi of irrep (l, p): sin((2l+1) a/2) / sin(a/2) as the sum of cos(m a); p more for improper elements."""
    m = torch.arange(-l, l + 1, dtype=torch.float64)
    value = torch.cos(m * torch.as_tensor(angle, dtype=torch.float64)[..., None]).sum(-1)
    return torch.where(torch.as_tensor(det) < 0, p * value, value)


@functools.cache
def haar_average(name: str, l: int, p: int) -> float:
    """Mean character of a group: exact sums; equidistant angles are exact for trigonometric polynomials."""
    if name in FINITE:
        sets = classes(name)
        return float(sum(n * character(l, p, det, angle) for det, angle, n in sets)) / sum(n for *_, n in sets)
    angles = torch.arange(128, dtype=torch.float64) * TURN / 128
    if name in ("SO3", "O3"):  # Weyl: the density of the rotation angle is 1 - cos(angle)
        proper = float((character(l, p, 1, angles) * (1 - angles.cos())).mean())
        return proper if name == "SO3" else (1 + p) / 2 * proper
    twofold = float(character(l, p, 1, TURN / 2))
    turns = float(character(l, p, 1, angles).mean())
    turns_and_mirror = p * turns  # mirror times turns: minus all turns again
    return {
        "SO2": turns,
        "Cinfv": (turns + p * twofold) / 2,
        "Cinfh": (turns + turns_and_mirror) / 2,
        "Dinf": (turns + twofold) / 2,
        "Dinfh": (turns + twofold + turns_and_mirror + p * twofold) / 4,
    }[name]


def all_elements(group) -> torch.Tensor:
    """Every element of a finite group once: the different ones among very many random ones."""
    many = group.random_elements(30 * int(group.order), torch.Generator().manual_seed(0))
    _, first = np.unique(many.flatten(1).numpy().round(6) + 0.0, axis=0, return_index=True)
    return many[torch.from_numpy(first)]


def contains(name: str, elements: torch.Tensor, group_elements: torch.Tensor | None) -> bool:
    """Whether the matrices lie in the named group (axis z), given all its elements if it is finite."""
    if name in FINITE:
        distance = (elements[:, None] - group_elements[None]).abs().amax((2, 3)).amin(1)
        return bool((distance < 1e-9).all())
    det = torch.linalg.det(elements)
    to_axis = elements[:, 2, 2]
    inside = {
        "SO2": (det > 0) & (to_axis > 1 - 1e-9),
        "Cinfv": to_axis > 1 - 1e-9,
        "Cinfh": (det * to_axis) > 1 - 1e-9,
        "Dinf": (det > 0) & (to_axis.abs() > 1 - 1e-9),
        "Dinfh": to_axis.abs() > 1 - 1e-9,
        "SO3": det > 0,
        "O3": det.abs() > 0,
    }[name]
    return bool(inside.all())


@functools.cache
def _points() -> tuple[torch.Tensor, torch.Tensor]:
    points = torch.randn(400, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points = points / points.norm(dim=1, keepdim=True)
    Y = o3.spherical_harmonics(list(range(L_MAX + 1)), points, normalize=False, normalization="component")
    return points, Y


def representations(elements: torch.Tensor, l: int, p: int) -> torch.Tensor:
    """D(g) with Y(g x) = D(g) Y(x), solved from harmonics at many points; (count, 2l+1, 2l+1)."""
    points, Y = _points()
    rotated = torch.einsum("gij,nj->gni", elements, points)
    columns = slice(l * l, (l + 1) ** 2)
    images = o3.spherical_harmonics(l, rotated, normalize=False, normalization="component")
    D = (torch.linalg.pinv(Y[:, columns]) @ images).mT
    sign = torch.where(torch.linalg.det(elements) < 0, float(p * (-1) ** l), 1.0).double()
    return D * sign[:, None, None]
