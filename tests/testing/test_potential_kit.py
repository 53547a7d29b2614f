"""The kit passes an exact potential and finds each way in which the others are wrong."""

import functools

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from ik_e3nn.testing import PROPERTIES, PotentialReport, PropertyResult, assert_potential, check_potential
from tests.testing import broken


@pytest.fixture(scope="module")
def structures():
    rng = np.random.default_rng(0)
    crystal = bulk("Cu", cubic=True) * (1, 1, 1)
    crystal.set_cell(crystal.cell @ (np.eye(3) + 0.05 * rng.normal(size=(3, 3))), scale_atoms=True)
    crystal.rattle(0.05, seed=1)
    slab = fcc111("Al", (1, 1, 2), vacuum=0.0, a=4.05)
    slab.rattle(0.05, seed=2)
    slab.cell[2] = 0
    slab.pbc = (True, True, False)
    dimer = Atoms("ArAr", [[0, 0, 0], [0.1, 0.2, 3.0]])
    return [molecule("CH3OH"), crystal, slab, dimer]


def test_an_exact_potential_passes(structures):
    report = assert_potential(broken.PairPotential(), structures)
    assert report.passed
    assert not report.failures
    assert len(report.rows) == len({row.name for row in report.rows}) == 25
    assert report["forces by finite differences"].tolerance == 1e-6
    assert report["stress by finite differences"].tolerance == 1e-7
    assert str(report).count("passed") == len(report.rows)


@pytest.mark.parametrize(
    ("model", "failures"),
    [
        (broken.Anisotropic, {"equivariance: energy", "equivariance: forces", "equivariance: stress"}),
        (broken.SharpCutoff, {"cutoff: jump of the energy", "cutoff: jump of the forces"}),
        (broken.KinkAtCutoff, {"cutoff: jump of the forces"}),
        (broken.CountsAtoms, {"extensivity: energy"}),
        (broken.NormalizesOverTheBatch, {"batch: energy", "batch: forces", "batch: stress", "extensivity: energy"}),
        (broken.DependsOnTheOrder, {"permutation: energy", "permutation: forces", "permutation: stress"}),
        (
            broken.DependsOnThePlace,
            {f"{way}translation: {what}" for way in ("", "lattice ") for what in ("energy", "forces", "stress")},
        ),
        (broken.WrongForces, {"forces by finite differences"}),
        (broken.WrongStress, {"stress by finite differences"}),
        (broken.WrongSites, {"site energies sum to the energy"}),
        (broken.ChangesItsInput, {"inputs changed"}),
        (broken.MarksItsInput, {"inputs changed"}),
        (broken.Noisy, {"repeatable"}),
        (broken.Silent, {"all forces are zero"}),
    ],
    ids=lambda p: p.__name__ if isinstance(p, type) else "",
)
def test_each_fault_is_found(model, failures, structures):
    report = check_potential(model(), structures)
    found = {row.name for row in report.failures}
    assert failures <= found, str(report)
    # the fault shows where it is, and little else
    side_effects = {
        broken.DependsOnThePlace: {"equivariance", "forces", "stress", "extensivity", "cutoff"},
        broken.DependsOnTheOrder: {"extensivity", "forces sum"},
        broken.NormalizesOverTheBatch: {"extensivity", "forces", "stress", "cutoff"},
        broken.SharpCutoff: {"forces by", "stress by"},
        broken.KinkAtCutoff: {"forces by", "stress by"},
    }.get(model, set())
    rest = {name for name in found - failures if not any(name.startswith(s) for s in side_effects)}
    assert not rest, str(report)


def test_nan_fails_and_is_not_hidden(structures):
    report = check_potential(broken.NotANumber(), structures, properties=["permutation", "forces", "not zero"])
    assert not report.passed
    assert {row.name for row in report.failures} >= {"permutation: energy", "all forces are zero"}


def test_a_smaller_group_may_be_asked_for(structures):
    model = broken.Anisotropic()
    assert check_potential(model, structures, group="Cinfv", properties=["equivariance"]).passed
    model.group = "SO2"
    assert check_potential(model, structures, properties=["equivariance"]).passed
    assert not check_potential(model, structures, group="O", properties=["equivariance"]).passed


def test_the_message_names_the_failures(structures):
    with pytest.raises(AssertionError, match=r"the potential fails: forces by finite differences[\s\S]*FAILED  #\d"):
        assert_potential(broken.WrongForces(), structures, properties=["forces", "batch"])


def test_single_precision_has_its_own_tolerances(structures):
    model = broken.PairPotential().float()
    report = assert_potential(model, structures)
    assert report["permutation: energy"].tolerance == pytest.approx(7e-5, rel=0.1)
    assert report["forces by finite differences"].tolerance == 1e-6  # in a copy in float64
    assert model.strength.dtype == torch.float32


def test_the_mode_of_the_model_is_kept(structures):
    model = broken.PairPotential().train()
    seen = []
    model.register_forward_hook(lambda module, *_: seen.append(module.training))
    check_potential(model, structures[:1], properties=["translation"])
    assert model.training
    assert not any(seen)


def test_one_atom_and_no_neighbors():
    report = assert_potential(broken.PairPotential(), [Atoms("He"), Atoms("He2", [[0, 0, 0], [0, 0, 50]])])
    assert report["cutoff: jump of the forces"].value < 1e-6


def test_a_plain_function_is_a_potential_too(structures):
    model = broken.PairPotential()
    assert check_potential(functools.partial(model.forward), structures, r_max=4.0).passed


def test_structures_are_not_changed(structures):
    before = [atoms.copy() for atoms in structures]
    check_potential(broken.PairPotential(), structures)
    assert all(a == b and a.info == b.info for a, b in zip(before, structures, strict=True))


def test_what_cannot_be_checked_is_refused(structures):
    with pytest.raises(ValueError, match=r"unknown properties \['beauty'\]: expected some of"):
        check_potential(broken.PairPotential(), structures, properties=["beauty"])
    with pytest.raises(ValueError, match="give at least one"):
        check_potential(broken.PairPotential(), [])
    with pytest.raises(ValueError, match="has no attribute r_max"):
        check_potential(lambda graph, **_: graph, structures)


def test_reports():
    good, bad = PropertyResult("a", 0.0, 0.0, "eV"), PropertyResult("b", float("nan"), 1.0, "eV")
    report = PotentialReport((good, bad))
    assert report["a"].passed
    assert report.failures == (bad,)
    assert not PotentialReport(()).passed
    with pytest.raises(KeyError, match="no property 'c' was measured"):
        report["c"]


def test_every_property_has_a_name_and_a_description():
    assert all(check.__doc__ for check in PROPERTIES.values())
