"""Units and signs that do not fit are told from physics, with what to set; data that are right are left in peace."""

import re
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from ik_e3nn.data import LabeledSet, LabelKeys, StructureLabels, read_labels, write_structures
from ik_e3nn.data.checking.check import CheckSettings, check
from ik_e3nn.data.graphs.dataset import force_rms, force_scale
from ik_e3nn.data.suspicions.force_evidence import hydrogen_stiffness
from ik_e3nn.data.suspicions.label_work import energy_slopes
from ik_e3nn.data.suspicions.unit_evidence import agreed, nearest_ratio, nearest_ratios, total_energy_ratios
from ik_e3nn.data.suspicions.units import suspicious_units

NOTHING = np.full((3, 3), np.nan)
ENERGY, LENGTH = units.Hartree, units.Bohr


def suspicious(structures, labels, keys, places=None):
    return suspicious_units(LabeledSet.of_labels(structures, labels, places=places), keys)


def methanes(count=40, energy=1.0, forces=1.0, bohr=1.0):
    """Methane with springs of 32 eV/A^2 and the all-electron energy of B3LYP, -40.52 Ha; factors of the labels."""
    rng = np.random.default_rng(0)
    structures, labels = [], []
    for _ in range(count):
        atoms = molecule("CH4")
        atoms.positions += 0.03 * rng.normal(size=(5, 3))
        vectors = atoms.positions[1:] - atoms.positions[0]
        lengths = np.linalg.norm(vectors, axis=1)
        pull = -32.0 * (lengths - 1.09)[:, None] * vectors / lengths[:, None]
        total = -40.52 * ENERGY + 16.0 * ((lengths - 1.09) ** 2).sum()
        labels.append(StructureLabels(energy * total, forces * np.r_[[-pull.sum(0)], pull], NOTHING))
        atoms.positions *= bohr
        structures.append(atoms)
    return structures, labels


def copper(count=24, strain=0.02, rattle=0.05, stress=1.0, forces=1.0):
    rng = np.random.default_rng(1)
    structures, labels = [], []
    for number in range(count):
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain * rng.normal(size=(3, 3))), scale_atoms=True)
        atoms.rattle(rattle, seed=number)
        atoms.calc = EMT()
        found = StructureLabels(
            atoms.get_potential_energy(), forces * atoms.get_forces(), stress * atoms.get_stress(voigt=False)
        )
        atoms.calc = None
        structures.append(atoms)
        labels.append(found)
    return structures, labels


def test_the_evidence_has_the_right_values() -> None:
    structures, labels = methanes()
    data = LabeledSet.of_labels(structures, labels)
    assert hydrogen_stiffness(data) == pytest.approx(1.0, abs=0.05)
    assert agreed(total_energy_ratios(data.values["energy"], structures)) == pytest.approx(units.Hartree, rel=0.03)
    assert nearest_ratio([nearest_ratios(atoms) for atoms in structures]) == pytest.approx(
        1.09 / (0.76 + 0.31), abs=0.05
    )
    data = LabeledSet.of_labels(*copper(rattle=0.02, strain=0.0))
    assert energy_slopes(data).forces == pytest.approx(1.0, abs=0.05)
    data = LabeledSet.of_labels(*copper(rattle=0.0, strain=0.01))
    assert energy_slopes(data).stress == pytest.approx(1.0, abs=0.05)


def test_right_units_are_left_in_peace() -> None:
    assert suspicious(*methanes(), LabelKeys()) == []
    for strain, rattle in ((0.02, 0.05), (0.0, 0.02), (0.02, 0.0)):
        assert suspicious(*copper(strain=strain, rattle=rattle), LabelKeys()) == []
    assert suspicious([Atoms("H")], [StructureLabels(-13.6, np.zeros((1, 3)), NOTHING)], LabelKeys()) == []
    dilute = [Atoms("Ar2", [[0, 0, 0], [0, 0, 3.8]])] * 20
    assert suspicious(dilute, [StructureLabels.empty(2)] * 20, LabelKeys()) == []
    ions = [bulk("NaCl", "rocksalt", a=5.64), bulk("Cs", "bcc", a=6.05), bulk("Au"), molecule("OH")] * 5
    assert suspicious(ions, [StructureLabels.empty(len(atoms)) for atoms in ions], LabelKeys()) == []


@pytest.mark.parametrize(
    ("energy", "forces", "expected"),
    [
        (1 / ENERGY, LENGTH / ENERGY, ["set energy_unit='Ha'", "set energy_unit='Ha' and length_unit='bohr'"]),
        (1 / ENERGY, 1 / ENERGY, ["set energy_unit='Ha'", "set energy_unit='Ha' and length_unit='ang'"]),
        (units.mol / units.kcal, units.mol / units.kcal, ["set energy_unit='kcal/mol'", "in kcal/mol/ang"]),
        (units.mol / units.kJ, units.mol / units.kJ, ["set energy_unit='kJ/mol'", "in kJ/mol/ang"]),
        (1000.0, 1000.0, ["multiply energies by 0.001", "in meV/ang"]),
        (1.0, LENGTH, ["in eV/bohr, not in eV/ang", "set energy_unit='eV' and length_unit='bohr'"]),
        (1.0, LENGTH / ENERGY, ["in Ha/bohr", "convert them, because one setting applies to energies and forces"]),
        (1 / ENERGY, 1.0, ["set energy_unit='Ha'", "energies and forces do not fit each other"]),
        (1.0, -1.0, ["the forces seem to have the wrong sign"]),
        (units.mol / units.kcal, -units.mol / units.kcal, ["the forces seem to have the wrong sign", "in kcal/"]),
    ],
)  # fmt: skip
def test_units_of_molecules(energy, forces, expected) -> None:
    found = " | ".join(suspicious(*methanes(energy=energy, forces=forces), LabelKeys()))
    for sentence in expected:
        assert sentence in found


def test_units_that_are_set_are_no_suspicion(tmp_path) -> None:
    structures, labels = methanes(energy=1 / ENERGY, forces=LENGTH / ENERGY)
    for atoms, one in zip(structures, labels, strict=True):
        atoms.info["REF_energy"], atoms.arrays["REF_forces"] = one.energy, one.forces
    write_structures(tmp_path / "a.xyz", structures)
    settings = {"data": str(tmp_path / "a.xyz"), "overwrite": True, "output": str(tmp_path / "c")}
    wrong = check(CheckSettings(**settings))
    assert not wrong.is_clean
    assert "the energies seem to be in Ha, not in eV" in wrong.text()
    assert check(CheckSettings(energy_unit="Ha", length_unit="bohr", **settings)).is_clean


def test_positions_in_bohr() -> None:
    (found,) = suspicious(*methanes(bohr=1 / LENGTH), LabelKeys())
    assert "the positions seem to be in bohr, not in A" in found
    assert "multiply positions and cells by 0.529177" in found


@pytest.mark.parametrize(
    ("strain", "rattle", "factor", "message"),
    [
        (0.02, 0.05, 1 / (0.1 * units.GPa), "in kbar, not in eV/A.3.*divide it by 1602.18"),
        (0.02, 0.05, 1 / units.GPa, "in GPa, not in eV/A.3.*divide it by 160.218"),
        (0.01, 0.0, -1 / (0.1 * units.GPa), "in kbar and the opposite sign.*divide it by -1602.18"),
        (0.01, 0.0, -1.0, "the stress seems to have the opposite sign"),
    ],
)
def test_stress_in_other_units(strain, rattle, factor, message) -> None:
    (found,) = suspicious(*copper(strain=strain, rattle=rattle, stress=factor), LabelKeys())
    with pytest.raises(ValueError, match=message):
        raise ValueError(found)


def test_gradients_of_a_crystal() -> None:
    (found,) = suspicious(*copper(strain=0.0, rattle=0.02, forces=-1.0), LabelKeys())
    assert "the forces seem to have the wrong sign" in found


def test_labels_that_are_not_read(caplog) -> None:
    cell = {"cell": [3, 3, 3], "pbc": True}
    frames = [Atoms("Cu", info={"REF_energy": 1.0}, **cell), Atoms("Cu", info={"energy": 1.0}, **cell)]
    for atoms in frames:
        atoms.info["virial"] = np.eye(3)
    data = read_labels(frames, require=["energy"])
    assert "1 of 2 structures have no energy under 'REF_energy', but have 'energy', which is not read" in caplog.text
    assert "'virial' of 2 structures is not read; set virial='virial'" in caplog.text
    assert len(data.doubts) == 2
    assert not read_labels(frames[:1], LabelKeys(virial="virial"), require=["energy"]).doubts


def test_two_different_energies_are_said(caplog) -> None:
    atoms = Atoms("Cu")
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, free_energy=-1.5)
    data = read_labels([atoms], require=["energy"])
    assert data.values["energy"] == [-1.0]
    assert "energy and free_energy differ in 1 structures, by up to 0.5 eV: the label 'energy' is read" in caplog.text
    assert read_labels([atoms], LabelKeys(energy="free_energy"), require=["energy"]).values["energy"] == [-1.5]
    atoms.info["energy"] = -2.0
    assert read_labels([atoms], require=["energy"]).values["energy"] == [-2.0]
    assert "1 structures have two different values of energy under 'energy'" in caplog.text


def with_forces(sizes):
    """Three atoms with the same force components, for each of these sizes."""
    labels = [StructureLabels(0.0, np.full((3, 3), size), NOTHING) for size in sizes]
    return LabeledSet.of_labels([Atoms("H3")] * len(sizes), labels)


def test_one_absurd_force_does_not_set_the_scale(caplog) -> None:
    data = with_forces([1.0] * 50)
    assert force_scale(data) == force_rms(data.values["forces"]) == 1.0
    data.values["forces"][21:24] = 1e5
    assert force_rms(data.values["forces"]) > 1e4
    assert force_scale(data) == 1.0
    assert "1 of 50 structures have forces so large (up to 1.73e+05 eV/A, in structure 7)" in caplog.text
    assert force_scale(with_forces([])) == 0.0


@pytest.mark.parametrize(("number", "absurd"), [(9, 1), (50, 2), (50, 5), (200, 3)])
def test_a_few_absurd_forces_do_not_set_the_scale(number: int, absurd: int) -> None:
    assert force_scale(with_forces([1.0] * (number - absurd) + [1e5] * absurd)) == 1.0


def test_a_tenth_of_large_forces_is_a_kind_of_structure() -> None:
    data = with_forces([1.0] * 44 + [40.0] * 6)
    assert force_scale(data) == force_rms(data.values["forces"])


def every(structures, labels, part, change):
    """The same labels, of every second structure, or a few, changed."""
    chosen = {"half": lambda k: k % 2 == 1, "third": lambda k: k % 3 == 2, "block": lambda k: 17 <= k < 20}[part]
    pairs = [
        change(a, one) if chosen(k) else (a, one) for k, (a, one) in enumerate(zip(structures, labels, strict=True))
    ]
    return [a for a, _ in pairs], [one for _, one in pairs]


def in_bohr(atoms, labels):
    return Atoms(atoms.numbers, atoms.positions / LENGTH, cell=atoms.cell / LENGTH, pbc=atoms.pbc), labels


def label(name, change):
    return lambda atoms, labels: (atoms, replace(labels, **{name: change(getattr(labels, name), len(atoms))}))


def bound_copper():
    """Copper with the energies of bonds: EMT's are relative to the perfect crystal."""
    structures, labels = copper(40, strain=0.0)
    return structures, [replace(one, energy=one.energy - 14.0) for one in labels]


MIXTURES = [
    ("positions", in_bohr, "seem to be in bohr, the others in A, by .* cells by 0.529177"),
    ("energies", label("energy", lambda e, n: e / ENERGY), "seem to be in Ha, the others in eV; convert them"),
    ("energies", label("energy", lambda e, n: -e), "seem to have the wrong sign; multiply them by -1"),
    ("energies", label("energy", lambda e, n: e / n), "seem to be per atom, the others for whole structures; multiply"),
    ("forces", label("forces", lambda f, n: -f), "seem to have the wrong sign, as gradients have; multiply them by -1"),
    ("forces", label("forces", lambda f, n: f * LENGTH / ENERGY), "seem to be in Ha/bohr, the others in eV/ang"),
    ("forces", label("forces", lambda f, n: 0.0 * f), "are exactly zero, and symmetry is not the reason"),
]  # fmt: skip


@pytest.mark.parametrize("make", [methanes, bound_copper], ids=["molecules", "crystals"])
def test_labels_mixed_within_one_set(make) -> None:
    structures, labels = make()
    counts = {"half": (20, 1), "block": (3, 17)}
    for what, change, message in MIXTURES:
        for part, (count, first) in counts.items():
            (found,) = suspicious(*every(structures, labels, part, change), LabelKeys())
            assert f"{what}" in found
            assert f"{count} of 40 structures (the first is structure {first}) " in found
            assert re.search(message, found)


def test_energies_of_two_methods() -> None:
    other = label("energy", lambda e, n: 0.35 * e)
    (found,) = suspicious(*every(*methanes(), "third", other), LabelKeys())
    assert "energies: 13 of 40 structures (the first is structure 2) are 0.35 times" in found
    assert "they seem to come from another method" in found


def test_mixed_stress() -> None:
    kbar = label("stress", lambda s, n: s / (0.1 * units.GPa))
    (found,) = suspicious(*every(*copper(30), "half", kbar), LabelKeys())
    assert "stress: 15 of 30 structures (the first is structure 1) seem to be in kbar, the others in eV/A^3" in found


def test_a_set_is_sampled_at_random_and_the_sentence_says_so() -> None:
    structures, labels = methanes()
    structures, labels = every(structures * 40, labels * 40, "half", in_bohr)
    (found,) = suspicious(structures, labels, LabelKeys(), [f"frame {k} of a.xyz" for k in range(1600)])
    count = int(
        re.search(r"positions: (\d+) of 1000 structures looked at \(the first is frame \d+ of a.xyz\)", found)[1]
    )
    assert 450 < count < 550


def test_dissociation_and_other_sound_sets_are_no_mixtures() -> None:
    def curve(distances, atoms=("H", "H"), depth=4.6):
        """A Morse curve with its forces, relative to the atoms."""
        frames, labels = [], []
        for r in distances:
            x = np.exp(-1.9 * (r - 0.75))
            force = 2 * depth * 1.9 * (x * x - x)
            frames.append(Atoms("".join(atoms), [[0, 0, 0], [0, 0, r]]))
            labels.append(StructureLabels(depth * (x * x - 2 * x), np.outer([-force, force], [0, 0, 1]), NOTHING))
        return frames, labels

    assert suspicious(*curve(np.linspace(0.6, 8.0, 60)), LabelKeys()) == []
    assert suspicious(*curve(np.r_[np.linspace(0.7, 0.8, 20), np.linspace(5, 6, 10)]), LabelKeys()) == []
    assert suspicious(*(one[:1] for one in methanes()), LabelKeys()) == []
    assert suspicious([], [], LabelKeys()) == []
    structures, labels = methanes(20)
    metal, theirs = copper(20)
    assert suspicious([*structures, *metal], [*labels, *theirs], LabelKeys()) == []
    assert suspicious(metal, [StructureLabels.empty(4)] * 20, LabelKeys()) == []


def test_energies_of_the_wrong_sign_and_per_atom() -> None:
    (found,) = suspicious(*methanes(energy=-1.0), LabelKeys())
    assert "the energies seem to have the wrong sign" in found
    structures, labels = copper(strain=0.0, rattle=0.02)
    (found,) = suspicious(structures, [replace(one, energy=-one.energy) for one in labels], LabelKeys())
    assert "the energies seem to have the wrong sign: they rise along the forces" in found
    (found,) = suspicious(structures, [replace(one, energy=one.energy / 4) for one in labels], LabelKeys())
    assert "the energies seem to be per atom, not for whole structures: they change by 1/4 of the work" in found
    assert "multiply each by its number of atoms" in found


def test_rows_of_forces_in_another_order() -> None:
    structures, labels = methanes()
    order = np.array([3, 0, 1, 4, 2])
    structures = [atoms[order] for atoms in structures]
    labels = [replace(one, forces=one.forces[order]) for one in labels]
    assert suspicious(structures, labels, LabelKeys()) == []
    for key, name in ((lambda a: a.numbers, "atomic number"), (lambda a: np.array(a.get_chemical_symbols()), "symbol")):
        moved = [replace(one, forces=one.forces[np.argsort(key(a), kind="stable")])
                 for a, one in zip(structures, labels, strict=True)]  # fmt: skip
        (found,) = suspicious(structures, moved, LabelKeys())
        assert f"the rows of the forces seem to be in another order than the atoms: sorted by {name}" in found


@pytest.mark.parametrize("factor", [-1.0, 1.0])
def test_a_virial_under_the_name_of_the_stress(factor, tmp_path) -> None:
    structures, labels = copper(strain=0.01, rattle=0.0)
    virials = [replace(one, stress=factor * one.stress * a.get_volume())
               for a, one in zip(structures, labels, strict=True)]  # fmt: skip
    (found,) = suspicious(structures, virials, LabelKeys())
    assert "the stress seems to be a virial in eV" in found
    assert "set virial='NAME' with its name instead" in found
    for atoms, one in zip(structures, virials, strict=True):
        atoms.info["REF_stress"] = one.stress
    read = read_labels(structures, LabelKeys(virial="REF_stress"), require=["stress"])
    np.testing.assert_allclose(read.values["stress"][3], -factor * labels[3].stress, atol=1e-12)


def test_the_sign_of_a_stress_from_strain_alone() -> None:
    structures, labels = copper(strain=0.02, rattle=0.05)
    (found,) = suspicious(structures, [replace(one, stress=-one.stress) for one in labels], LabelKeys())
    assert "the stress seems to have the opposite sign, as pressures have" in found
    (found,) = suspicious(structures, [replace(one, stress=-one.stress / (0.1 * units.GPa)) for one in labels],
                                LabelKeys())  # fmt: skip
    assert "divide it by -1602.18" in found


def test_crystals_without_energies_and_energies_beside_stress() -> None:
    structures, labels = copper()
    alone = [StructureLabels(np.nan, -one.forces, NOTHING) for one in labels]
    (found,) = suspicious(structures, alone, LabelKeys())
    assert "the forces seem to have the wrong sign, as gradients have: they pull atoms together that are near" in found
    structures, labels = copper(strain=0.01, rattle=0.0)
    (found,) = suspicious(structures, [replace(one, energy=-one.energy) for one in labels], LabelKeys())
    assert "the energies seem to have the wrong sign: they fall where the stress resists a strain" in found


def test_a_stress_of_exactly_zero() -> None:
    structures, labels = copper(12)
    (found,) = suspicious(structures, [replace(one, stress=np.zeros((3, 3))) for one in labels], LabelKeys())
    assert "the stress of 12 of 12 structures (the first is structure 0) is exactly zero" in found
    perfect = [bulk("Cu", cubic=True, a=a) for a in np.linspace(3.5, 3.7, 12)]
    assert suspicious(perfect, [StructureLabels(-a.get_volume() ** 0.01, np.zeros((4, 3)), NOTHING)
                                      for a in perfect], LabelKeys()) == []  # fmt: skip


def test_absurd_values_cause_no_warnings() -> None:
    structures, labels = copper(12)
    labels[3] = replace(labels[3], stress=np.full((3, 3), 1e300))
    labels[4] = replace(labels[4], forces=np.full((4, 3), 1e300))
    labels[5] = replace(labels[5], energy=1e308)
    structures[6].positions *= 1e3
    suspicious([*structures, Atoms("H")], [*labels, StructureLabels.empty(1)], LabelKeys())
