"""Structures from PyTorch Geometric data objects, with the conventions of its QM9."""

from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from ik_e3nn.errors import DataError
from ik_e3nn.graph import set_bonds


def from_pyg(data: Data) -> Atoms:
    """A PyG ``Data`` as ASE atoms.

    It reads ``z`` or ``atomic_numbers``, ``pos`` or ``positions`` (A), ``edge_attr`` (one-hot single, double, triple,
    aromatic) with ``edge_index`` for the bonds, ``cell``, ``pbc``, ``total_charge`` or ``charge``, ``spin``, and the
    labels ``energy`` (eV), ``forces`` or ``force`` (eV/A) and ``stress`` (eV/A^3). Graphs of this library, which have
    ``bond_types``, are read as well.

    Args:
        data: One structure.

    Returns:
        The structure; labels are calculator results, bonds are in ``info``.

    Raises:
        DataError: Atomic numbers or positions are missing or do not fit, or the bonds are not one-hot.

    Example:
        >>> data = Data(z=torch.tensor([1, 1]), pos=torch.tensor([[0.0, 0, 0], [0, 0, 0.74]]))
        >>> from_pyg(data).get_chemical_formula()
        'H2'
    """
    numbers, positions = _first(data, "z", "atomic_numbers"), _first(data, "pos", "positions")
    if numbers is None or positions is None:
        raise DataError(
            f"a Data needs z (or atomic_numbers) and pos (or positions); this one has {sorted(data.keys())}"
        )
    if positions.shape != (numbers.numel(), 3):
        raise DataError(f"{numbers.numel()} atomic numbers, but positions of shape {tuple(positions.shape)}")
    cell, pbc = _first(data, "cell"), _first(data, "pbc")
    atoms = Atoms(
        numbers=_array(numbers).astype(int).reshape(-1),
        positions=_array(positions),
        cell=None if cell is None else _array(cell).reshape(3, 3),
        pbc=(cell is not None) if pbc is None else _array(pbc).reshape(-1),
    )
    bonds = _bonds(data)
    if bonds is not None:
        set_bonds(atoms, bonds)
    for key, names in (("charge", ("total_charge", "charge")), ("spin", ("spin",))):
        value = _first(data, *names)
        if value is not None and value.numel() == 1:
            atoms.info[key] = float(value)
    results = {
        "energy": _first(data, "energy"),
        "forces": _first(data, "forces", "force"),
        "stress": _first(data, "stress"),
    }
    labels = {
        name: _array(value) for name, value in results.items() if value is not None and torch.isfinite(value).any()
    }
    if labels:
        atoms.calc = SinglePointCalculator(atoms, **_shaped(labels))
    return atoms


def _first(data: Data, *names: str) -> Tensor | None:
    """The first of these tensors that the object has."""
    for name in names:
        value: Any = data.get(name)
        if value is not None:
            return torch.as_tensor(value)
    return None


def _array(tensor: Tensor) -> NDArray[Any]:
    """A tensor as a NumPy array, floats in double precision."""
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _shaped(labels: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Labels in ASE's shapes."""
    shapes: dict[str, Any] = dict(labels)
    if "energy" in labels:
        shapes["energy"] = float(labels["energy"].reshape(-1)[0])
    if "stress" in labels:
        shapes["stress"] = labels["stress"].reshape(3, 3) if labels["stress"].size == 9 else labels["stress"].reshape(6)
    return shapes


def _bonds(data: Data) -> list[tuple[int, int, int]] | None:
    """Bonds of a ``Data``, each once; None if it has no bonds."""
    edge_index, one_hot, types = _first(data, "edge_index"), _first(data, "edge_attr"), _first(data, "bond_types")
    if edge_index is None or (types is None and one_hot is None):
        return None
    if types is None and one_hot is not None:
        if one_hot.dim() != 2 or one_hot.shape[1] != 4 or not bool((one_hot.sum(dim=1) == 1).all()):
            raise DataError(
                "edge_attr must be one-hot over single, double, triple, aromatic bonds, shape (edges, 4); "
                f"got shape {tuple(one_hot.shape)}"
            )
        types = one_hot.argmax(dim=1) + 1
    rows = zip(*edge_index.tolist(), types.tolist() if types is not None else [], strict=True)
    return sorted({(min(i, j), max(i, j), kind) for i, j, kind in rows if kind > 0})
