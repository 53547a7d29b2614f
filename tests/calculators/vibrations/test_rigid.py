"""Rigid motions are those along which forces do no work, whatever the structure is."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.constraints import FixAtoms

from ik_e3nn.models import InteratomicPotential
from ik_e3nn.models.uncertainty.ensemble import Committee
from ik_e3nn_calculators import IKCalculator
from ik_e3nn_calculators.vibrations.rigid import TOLERANCE, rigid_motions, shape


def potential(group="O3", inputs=()):
    sizes = {"num_channels": 2, "num_layers": 1, "l_max": 2, "l_features": 1, "correlation": 2}
    model = InteratomicPotential(["H", "O"], 4.0, group=group, inputs=inputs, **sizes).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()  # the field of the surroundings is zero at first
    return model.requires_grad_(False)


TILTED = {"surface_normal": [1.0, 2.0, 2.0], "surface_origin": [0.3, -0.2, 0.5], "surface_x": [2.0, 1.0, -2.0]}
KNOWN = {
    "free": ("O3", (), {}, 0, 6),
    "crystal": ("O3", (), {}, 3, 3),
    "slab": ("O3", (), {}, 2, 3),
    "polymer": ("O3", (), {}, 1, 4),
    "field": ("Cinfv", (), {}, 0, 4),
    "finite field": ("C2v", (), {}, 0, 3),
    "surface": ("Cinfv", ("surface",), {}, 0, 3),
    "tilted surface": ("Cinfv", ("surface",), TILTED, 0, 3),
    "periodic surface": ("Cinfv", ("surface",), {}, 2, 2),
    "surface of low symmetry": ("C2v", ("surface",), TILTED, 0, 2),
    "wire": ("Dinfh", ("wire",), TILTED, 0, 2),
    "site": ("O3", ("site",), TILTED, 0, 3),
    "site of low symmetry": ("C3v", ("site",), {}, 0, 0),
}


@pytest.mark.parametrize(("group", "inputs", "info", "periodic", "number"), KNOWN.values(), ids=list(KNOWN))
def test_they_are_all_motions_along_which_forces_do_no_work(rng, group, inputs, info, periodic, number):
    """The other motions are found without the code under test: work in many structures, and moves of fixed atoms."""
    model = potential(group, inputs)
    calculator = IKCalculator(model, device="cpu")
    pbc = [False, False, True] if periodic == 1 else [axis < periodic for axis in range(3)]
    rows = []
    for _ in range(6):
        atoms = Atoms("OHHO", rng.uniform(-1.2, 1.2, (4, 3)), cell=[3.0, 3.1, 3.2], pbc=pbc, info=info)
        atoms.calc = calculator
        turns = np.cross(np.eye(3)[:, None], atoms.positions)
        motions = np.concatenate([np.repeat(np.eye(3)[:, None], 4, axis=1), turns])
        forces = atoms.get_forces() / abs(atoms.get_forces()).max()
        rows.append((motions * forces).sum((1, 2)))
    assert len(rigid_motions(atoms, model).vectors) == number
    for fixed in ([], [0], [0, 2]):
        atoms.set_constraint(FixAtoms(fixed))
        moving = np.delete(np.arange(4), fixed)
        found = rigid_motions(atoms, model)
        np.testing.assert_allclose(np.einsum("kid,id->k", found.vectors, forces[moving]), 0, atol=1e-9)
        assert np.linalg.matrix_rank(found.vectors.reshape(-1, 3 * len(moving))) == len(found.vectors)
        constraints = np.concatenate([rows, motions[:, fixed].reshape(6, -1).T])
        assert len(found.vectors) == 6 - np.linalg.matrix_rank(constraints, tol=1e-8)
        assert found.is_free == (len(found.vectors) == 6)


def test_fixed_atoms_on_an_axis_of_the_surroundings_leave_the_turn_about_it():
    atoms = molecule("H2O")
    atoms.positions += [0.1, 0.2, 3.0] - atoms.positions[0]
    atoms.set_constraint(FixAtoms([0]))
    found = rigid_motions(atoms, potential("Cinfv", ("surface",)))
    assert (len(found.vectors), found.translations, found.is_free) == (1, 0, False)
    np.testing.assert_allclose(found.vectors[0] @ [0, 0, 1], 0, atol=1e-12)


def test_what_moves_no_atom_is_no_motion():
    model = potential("Cinfv", ("surface",))
    upright = Atoms("OH", [[1, 2, 3], [1, 2, 4.0]])
    assert len(rigid_motions(upright, model).vectors) == 2
    upright.positions[1, 0] += 0.5
    assert len(rigid_motions(upright, model).vectors) == 3
    chain = Atoms("OH", [[1, 2, 0], [1, 2, 1.0]], cell=[9, 9, 2.5], pbc=[0, 0, 1])
    assert len(rigid_motions(chain, potential()).vectors) == 3
    assert len(rigid_motions(Atoms("H"), potential()).vectors) == 3


def test_a_committee_keeps_what_all_its_members_keep():
    members = [potential("O3"), potential("Cinfv")]
    assert len(rigid_motions(molecule("H2O"), Committee(members)).vectors) == 4


@pytest.mark.parametrize(("bend", "expected"), [(0.8 * TOLERANCE, "linear"), (1.2 * TOLERANCE, "nonlinear")])
def test_a_molecule_is_linear_up_to_a_distance_from_its_axis(bend, expected):
    bent = Atoms("OCO", [[0, 0, -1.2], [0, 0, 0], [0, 0, 1.2]])
    bent.positions[1, 0] = bend / (32 / 44)  # distances from the axis through the center of mass
    assert shape(bent) == expected
    assert len(rigid_motions(bent, potential()).vectors) == (5 if expected == "linear" else 6)


def test_shapes_have_the_words_of_ase():
    assert [shape(molecule(name)) for name in ("F2", "HF", "C2H2", "H2O", "CH4")] == [
        *["linear"] * 3, "nonlinear", "nonlinear",
    ]  # fmt: skip
    assert shape(Atoms("He")) == "monatomic"
