"""A pose search finds what is known to be there."""

import csv
import json

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import add_adsorbate, fcc111
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.mixing import SumCalculator
from ase.constraints import FixAtoms
from ase.optimize import BFGS
from rdkit import Chem
from rdkit.Chem import AllChem, rdForceFieldHelpers
from scipy.optimize import minimize_scalar

from ik_e3nn.cli.app import main
from ik_e3nn.data import molecule_from_smiles
from ik_e3nn.data.generation.labeling import StateCalculator, make_calculator
from ik_e3nn.data.generation.steele import SteeleWall, steele
from ik_e3nn.errors import DataError, UnknownSpeciesError
from ik_e3nn.graph import get_bonds
from ik_e3nn.models import InteratomicPotential, save_model
from ik_e3nn_calculators.dock import DockSettings, RegionSettings, run_dock
from ik_e3nn_calculators.dock.search.energies import CalculatorEnergies
from ik_e3nn_calculators.dock.system.host import Host
from ik_e3nn_calculators.dock.system.ligand import read_ligand


def options(folder, **others):
    return {"output": str(folder / "dock"), "progress": False, "plots": False, **others}


def rows(folder):
    with (folder / "dock" / "poses.csv").open() as file:
        return list(csv.DictReader(file))


def surface_model(seed=0):
    torch.manual_seed(seed)
    return InteratomicPotential(
        ["H", "C", "O"], 4.0, num_channels=4, num_layers=1, l_max=1, correlation=1, group="Cinfv", inputs=["surface"]
    ).eval()


def test_a_probe_finds_the_minimum_of_a_known_potential(tmp_path):
    """A single argon atom over the wall: one pose, at the minimum of Steele's formula."""
    best = minimize_scalar(
        lambda z: steele(np.array([z]), Atoms("Ar").numbers)[0][0], bounds=(2.5, 5), method="bounded"
    )
    settings = DockSettings("[Ar]", **options(tmp_path, poses=10, fmax=1e-5, region=RegionSettings(heights=[2.5, 6.0])))
    summary = run_dock(settings, calculator=SteeleWall())
    assert summary.converged == 10
    assert summary.distinct == 1
    assert summary.best_binding_eV == pytest.approx(best.fun, abs=1e-6)
    assert float(rows(tmp_path)[0]["height_A"]) == pytest.approx(best.x, abs=1e-3)


def test_a_rigid_dimer_lies_down(tmp_path):
    """Stiff springs and the wall: both atoms at the height of their minimum is better than any other orientation."""
    wall = SumCalculator([SteeleWall(), LennardJones(sigma=3.3, epsilon=0.5, rc=20.0)])
    block = Chem.MolToMolBlock(_dimer())
    (tmp_path / "dimer.sdf").write_text(block + "$$$$\n")
    settings = DockSettings(
        str(tmp_path / "dimer.sdf"),
        **options(tmp_path, poses=12, conformers=1, fmax=1e-3, region=RegionSettings(heights=[2.5, 5.0])),
    )
    run_dock(settings, calculator=wall)
    best = rows(tmp_path)[0]
    assert float(best["tilt_deg"]) < 1.0
    single = minimize_scalar(
        lambda z: steele(np.array([z]), Atoms("Ar").numbers)[0][0], bounds=(2.5, 5), method="bounded"
    )
    assert float(best["binding_eV"]) == pytest.approx(2 * single.fun, abs=1e-3)
    assert abs(float(best["strain_eV"])) < 1e-3


def _dimer():
    from rdkit.Geometry import Point3D

    molecule = Chem.RWMol()
    for _ in range(2):
        molecule.AddAtom(Chem.Atom(18))
    conformer = Chem.Conformer(2)
    conformer.SetAtomPosition(1, Point3D(0, 0, 3.7))
    molecule.AddConformer(conformer)
    return molecule


def test_a_learned_surface(tmp_path, drawn):
    """All files, references and clusters with a model that knows the wall without atoms."""
    save_model(surface_model(), tmp_path / "model.safetensors")
    settings = DockSettings(
        "CO", **options(tmp_path, model=str(tmp_path / "model.safetensors"), poses=6, steps=30, plots=True, keep=3)
    )
    summary = run_dock(settings)
    folder = tmp_path / "dock"
    table = rows(tmp_path)
    assert len(table) == 6
    energies = [float(row["binding_eV"]) for row in table]
    assert energies == sorted(energies)
    assert table[0]["cluster"] == "0"
    assert all((folder / name).stat().st_size > 5000 for name in ("energies.png", "best.png"))
    frames = ase.io.read(folder / "poses.extxyz", ":")
    molecules = list(Chem.SDMolSupplier(str(folder / "poses.sdf"), removeHs=False))
    assert len(frames) == len(molecules) == min(3, summary.distinct)
    np.testing.assert_allclose(molecules[0].GetConformer().GetPositions(), frames[0].positions, atol=1e-3)
    assert float(molecules[0].GetProp("binding_eV")) == pytest.approx(energies[0], abs=1e-5)
    assert json.loads((folder / "summary.json").read_text())["poses"] == 6


def test_batches_are_bounded_and_do_not_matter(tmp_path, monkeypatch):
    atoms, forward = [], InteratomicPotential.forward

    def counted(self, graph, **others):
        atoms.append(len(graph["positions"]))
        return forward(self, graph, **others)

    monkeypatch.setattr(InteratomicPotential, "forward", counted)
    save_model(surface_model(), tmp_path / "model.safetensors")
    tables, largest = [], []
    for number, size in enumerate((1, 13, 10_000)):
        atoms.clear()
        where = tmp_path / str(number)
        where.mkdir()
        chosen = {"model": str(tmp_path / "model.safetensors"), "poses": 4, "steps": 10, "compile": False}
        run_dock(DockSettings("CO", **options(where, **chosen, batch_atoms=size)))
        tables.append([float(row["binding_eV"]) for row in rows(where)])
        largest.append(max(atoms))
    assert largest[:2] == [6, 12]  # one molecule of six atoms, though they are more than 1, and two
    assert largest[2] > 12
    np.testing.assert_allclose(tables[0], tables[2], atol=1e-4)
    np.testing.assert_allclose(tables[1], tables[2], atol=1e-4)


def test_a_slab_with_atoms(tmp_path):
    """Oxygen on copper ends in a hollow site, whatever the lattice image."""
    slab = fcc111("Cu", (2, 2, 3), vacuum=8.0)
    slab.pbc = (True, True, False)
    sites_known = slab.copy()
    slab.info = {}
    ase.io.write(tmp_path / "slab.xyz", slab)
    settings = DockSettings(
        "[O]",
        **options(
            tmp_path, host=str(tmp_path / "slab.xyz"), poses=8, region=RegionSettings(heights=[2.2, 3.0]), fmax=0.01
        ),
    )
    run_dock(settings, calculator=EMT())
    sites = {}
    for site in ("fcc", "hcp"):
        both = sites_known.copy()
        add_adsorbate(both, "O", 1.2, site)
        both.set_constraint(FixAtoms(range(len(slab))))
        both.calc = EMT()
        BFGS(both, logfile=None).run(fmax=0.005)
        alone, atom = slab.copy(), Atoms("O")
        alone.calc, atom.calc = EMT(), EMT()
        sites[site] = both.get_potential_energy() - alone.get_potential_energy() - atom.get_potential_energy()
    assert float(rows(tmp_path)[0]["binding_eV"]) == pytest.approx(min(sites.values()), abs=2e-3)


class Molecule(Calculator):
    """MMFF94 of RDKit."""

    implemented_properties = ("energy", "forces")

    def __init__(self, mol):
        super().__init__()
        mol = Chem.Mol(mol)
        AllChem.EmbedMolecule(mol, randomSeed=0)
        properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
        self.field = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties)

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        positions, unit = atoms.positions.ravel().tolist(), units.kcal / units.mol
        forces = -unit * np.array(self.field.CalcGrad(positions)).reshape(-1, 3)
        self.results = {"energy": unit * self.field.CalcEnergy(positions), "forces": forces}


def test_benzene_lies_flat_over_graphite(tmp_path):
    """At the minimum of Steele's formula for six carbon and six hydrogen atoms in one plane."""
    mol = read_ligand("c1ccccc1", 1, 0).molecule
    options_ = options(tmp_path, poses=4, conformers=1, fmax=1e-3, region=RegionSettings(heights=[2.5, 4.0]))
    run_dock(DockSettings("c1ccccc1", **options_), calculator=SumCalculator([SteeleWall(), Molecule(mol)]))
    numbers = Atoms("C6H6").numbers
    flat = minimize_scalar(
        lambda z: steele(np.full(12, z), numbers)[0].sum(), bounds=(2.5, 5), method="bounded", options={"xatol": 1e-8}
    )
    best = rows(tmp_path)[0]
    assert float(best["tilt_deg"]) < 1.0
    assert float(best["height_A"]) == pytest.approx(flat.x, abs=0.05)
    assert flat.fun - 0.01 < float(best["binding_eV"]) < flat.fun + 1e-4  # the rim may bend to the wall, at some gain


def test_a_protein_is_a_host(tmp_path):
    """A probe by a dipeptide in a PDB file finds a place at contact, and the dipeptide stays where it is."""
    peptide = Chem.AddHs(Chem.MolFromSequence("GA"), addResidueInfo=True)
    AllChem.EmbedMolecule(peptide, randomSeed=1)
    Chem.MolToPDBFile(peptide, str(tmp_path / "peptide.pdb"))
    positions = peptide.GetConformer().GetPositions()
    region = RegionSettings(sphere=[*positions.mean(axis=0).tolist(), 8.0])
    settings = DockSettings(
        "[Ar]", host=str(tmp_path / "peptide.pdb"), **options(tmp_path, poses=8, fmax=1e-3, region=region)
    )
    summary = run_dock(settings, calculator=LennardJones(sigma=3.0, epsilon=0.01, rc=15.0, smooth=True))
    assert summary.converged > 0
    assert summary.best_binding_eV < -0.03  # more than three contacts
    best = ase.io.read(tmp_path / "dock" / "best.extxyz")
    np.testing.assert_allclose(best.positions[:-1], positions, atol=2e-3)
    assert 2.7 < best.get_distances(-1, range(len(positions))).min() < 3.6


def test_an_atom_over_a_flake_of_graphene(tmp_path):
    """GFN2-xTB: argon is held at the distance of noble gases on graphite."""
    pytest.importorskip("tblite")
    flake = molecule_from_smiles("c1cc2ccc3ccc4ccc5ccc6ccc1c7c2c3c4c5c67")  # coronene
    centered = flake.positions - flake.positions.mean(axis=0)
    flake.positions = centered @ np.linalg.svd(centered)[2].T
    ase.io.write(tmp_path / "flake.xyz", flake, format="extxyz")
    options_ = options(tmp_path, poses=1, steps=30, fmax=0.01, region=RegionSettings(sphere=[0, 0, 3.6, 0.2]))
    run_dock(DockSettings("[Ar]", host=str(tmp_path / "flake.xyz"), calculator="gfn2-xtb", **options_))
    best = ase.io.read(tmp_path / "dock" / "best.extxyz")
    assert 3.0 < best.positions[-1, 2] < 3.8
    assert -0.3 < float(rows(tmp_path)[0]["binding_eV"]) < -0.02


def test_all_poses_of_a_round_are_one_call_of_the_model(tmp_path, monkeypatch):
    sizes, forward = [], InteratomicPotential.forward

    def counted(self, graph, **others):
        sizes.append(graph["cell"].shape[0])
        return forward(self, graph, **others)

    monkeypatch.setattr(InteratomicPotential, "forward", counted)
    save_model(surface_model(), tmp_path / "model.safetensors")
    settings = options(tmp_path, model=str(tmp_path / "model.safetensors"), poses=5, conformers=1, steps=3, fmax=1e-9)
    summary = run_dock(DockSettings("CO", **settings))
    # the molecule alone in four rounds, the poses in four rounds, the poses without the surface
    assert sizes == [1] * 4 + [5] * 4 + [5]
    assert summary.evaluations == sum(sizes)


def test_charge_spin_and_bonds_of_both_are_in_every_structure():
    """Far apart the energies of an ion and a molecule add up: each has its own charge."""
    pytest.importorskip("tblite")
    ion = Atoms("OH", [[0, 0, 0], [0, 0, 0.96]], info={"charge": -1, "spin": 1, "bonds": [0, 1, 1]})
    water = molecule_from_smiles("O")
    energies = CalculatorEnergies(water, Host(ion, "ion.xyz"), calculator=StateCalculator("gfn2-xtb"))
    both = energies.structure(water.positions + 300.0)
    assert (both.info["charge"], both.info["spin"]) == (-1, 1)
    assert get_bonds(both).tolist() == [[0, 1, 1], [2, 3, 1], [2, 4, 1]]
    assert energies.of_host() == pytest.approx(make_calculator("gfn2-xtb", -1).get_potential_energy(ion))
    alone = energies.of_host() + energies.alone(water.positions[None])[0][0]
    assert energies(water.positions[None] + 300.0)[0][0] == pytest.approx(alone, abs=1e-3)


class Fragile(SteeleWall):
    """Dies after some evaluations."""

    left = 10**9

    def calculate(self, *args, **kwargs):
        Fragile.left -= 1
        if Fragile.left < 0:
            raise KeyboardInterrupt
        super().calculate(*args, **kwargs)


def test_a_killed_search_continues_with_the_same_result(tmp_path, caplog):
    tables, calls = [], []
    for number, lives in enumerate((10**9, 60)):
        where = tmp_path / str(number)
        where.mkdir()
        settings = DockSettings("[Ar]", **options(where, poses=5, fmax=1e-4, region=RegionSettings(heights=[2.5, 6.0])))
        Fragile.left = lives
        if number:
            with pytest.raises(KeyboardInterrupt):
                run_dock(settings, calculator=Fragile())
            assert "stopped; the same command continues from" in caplog.text
            with np.load(where / "dock" / "state.npz") as state:
                assert state["evaluations"].min() > 0  # it does not begin anew
            Fragile.left = 10**9
        calls.append(run_dock(settings, calculator=Fragile()).evaluations)
        tables.append(rows(where))
    assert tables[0] == tables[1]
    assert calls[0] == calls[1]


def test_a_search_is_known_by_what_is_in_its_files(tmp_path):
    """A file may be renamed, and what is written may be changed; another molecule under the old name is another."""
    block = Chem.MolToMolBlock(_dimer()) + "$$$$\n"
    (tmp_path / "a.sdf").write_text(block)
    common = options(tmp_path, poses=3, conformers=1, steps=20, fmax=1e-9)
    Fragile.left = 20
    with pytest.raises(KeyboardInterrupt):
        run_dock(DockSettings(str(tmp_path / "a.sdf"), **common, keep=3), calculator=Fragile())
    Fragile.left = 10**9
    (tmp_path / "a.sdf").write_text(block.replace("3.7000", "3.9000"))
    with pytest.raises(DataError, match=r"holds another search \(it differs in ligand\)"):
        run_dock(DockSettings(str(tmp_path / "a.sdf"), **common), calculator=Fragile())
    (tmp_path / "b.sdf").write_text(block)
    summary = run_dock(DockSettings(str(tmp_path / "b.sdf"), **common, keep=1, distinct=1e-6), calculator=Fragile())
    assert summary.distinct == 3
    assert len(ase.io.read(tmp_path / "dock" / "poses.extxyz", ":")) == 1


def test_another_search_is_not_overwritten(tmp_path):
    settings = options(tmp_path, poses=2, steps=3)
    run_dock(DockSettings("[Ar]", **settings), calculator=SteeleWall())
    with pytest.raises(DataError, match="already holds a run"):
        run_dock(DockSettings("[Ne]", **settings), calculator=SteeleWall())
    run_dock(DockSettings("[Ne]", **settings, overwrite=True), calculator=SteeleWall())
    (tmp_path / "dock" / "summary.json").unlink()
    with pytest.raises(DataError, match="holds another search"):
        run_dock(DockSettings("[Kr]", **settings), calculator=SteeleWall())


@pytest.mark.parametrize("role", ["ligand", "host", "around"])
def test_a_search_does_not_replace_what_it_reads(tmp_path, role):
    settings = options(tmp_path, poses=2, steps=3)
    run_dock(DockSettings("[Ar]", **settings), calculator=SteeleWall())
    best = str(tmp_path / "dock" / "best.extxyz")
    read = {"region": RegionSettings(around=best)} if role == "around" else {role: best}
    chosen = DockSettings(**{"ligand": "[Ne]", **settings, "overwrite": True, **read})
    with pytest.raises(DataError, match=r"best.extxyz is read by this command, .*; choose another output folder"):
        run_dock(chosen, calculator=SteeleWall())


def test_hosts_and_models_must_fit(tmp_path):
    save_model(surface_model(), tmp_path / "wall.safetensors")
    save_model(InteratomicPotential(["H", "C", "O"], 4.0, num_channels=2, num_layers=1), tmp_path / "free.safetensors")
    slab = fcc111("Cu", (2, 2, 2), vacuum=8.0)
    slab.info = {}
    ase.io.write(tmp_path / "slab.xyz", slab)
    wall, free = (options(tmp_path, model=str(tmp_path / f"{name}.safetensors"), poses=1) for name in ("wall", "free"))
    with pytest.raises(
        DataError, match="knows no surface without atoms .* give a model that knows one, or the host as a structure"
    ):
        run_dock(DockSettings("C", **free))
    with pytest.raises(UnknownSpeciesError, match="cannot dock with Cu"):
        run_dock(DockSettings("C", host=str(tmp_path / "slab.xyz"), **free))
    with pytest.raises(UnknownSpeciesError, match="cannot dock with N"):
        run_dock(DockSettings("N", **wall))
    slit = InteratomicPotential(["H", "C"], 4.0, num_channels=2, num_layers=1, group="Dinfh", inputs=["surface"])
    save_model(slit, tmp_path / "slit.safetensors")
    with pytest.raises(DataError, match="Dinfh has two equal walls: the model describes a slit"):
        run_dock(DockSettings("C", **options(tmp_path, model=str(tmp_path / "slit.safetensors"), poses=1)))
    ase.io.write(tmp_path / "carbon.xyz", Atoms("C", [[0, 0, 0]]))
    sphere = RegionSettings(sphere=[0, 0, 4, 1])
    with pytest.raises(DataError, match="made for a surface without atoms"):
        run_dock(DockSettings("C", host=str(tmp_path / "carbon.xyz"), region=sphere, **wall))


def test_the_failure_of_one_pose_does_not_end_the_search(tmp_path):
    class Moody(SteeleWall):
        """Refuses atoms that are low."""

        def calculate(self, atoms=None, properties=("energy",), system_changes=()):
            if atoms.positions[:, 2].min() < 3.2:
                raise RuntimeError("no convergence")
            super().calculate(atoms, properties, system_changes)

    settings = DockSettings("[Ar]", **options(tmp_path, poses=6, region=RegionSettings(heights=[2.5, 6.0])))
    summary = run_dock(settings, calculator=Moody())
    assert 0 < summary.failed < 6
    assert [row["cluster"] for row in rows(tmp_path)][-1] == "-1"


def test_a_calculator_that_always_fails_says_why(tmp_path):
    """Before the search where it knows not even the molecule, after it where it dislikes all poses."""

    class Broken(SteeleWall):
        highest = 0.0

        def calculate(self, atoms=None, properties=("energy",), system_changes=()):
            if atoms.positions[:, 2].min() < self.highest:
                raise RuntimeError("no license")
            super().calculate(atoms, properties, system_changes)

    settings = DockSettings("[Ar]", **options(tmp_path, poses=2))
    calculator = Broken()
    calculator.highest = 1e9
    with pytest.raises(DataError, match=r"the energy of \[Ar\] alone is not finite \(RuntimeError: no license\)"):
        run_dock(settings, calculator=calculator)
    assert not (tmp_path / "dock").exists()
    calculator.highest = 100.0
    with pytest.raises(DataError, match=r"every relaxation failed \(RuntimeError: no license\)"):
        run_dock(settings, calculator=calculator)


def test_energies_must_come_from_somewhere(tmp_path):
    with pytest.raises(UnknownSpeciesError, match="cannot dock with Ar"):  # the base model
        run_dock(DockSettings("[Ar]", **options(tmp_path)))
    run_dock(DockSettings("[Ar]", calculator="steele", **options(tmp_path, poses=2)))
    assert float(rows(tmp_path)[0]["binding_eV"]) < -0.05


def test_a_site_in_a_cluster_of_atoms(tmp_path):
    """A probe in a cage: the reference pose is in the middle, and so is the best pose found."""
    cage = Atoms("Ar8", 3.4 * np.array(list(np.ndindex(2, 2, 2)), dtype=float))
    ase.io.write(tmp_path / "cage.xyz", cage)
    block = Chem.RWMol()
    block.AddAtom(Chem.Atom(2))
    conformer = Chem.Conformer(1)
    conformer.SetAtomPosition(0, [1.7, 1.7, 1.7])
    block.AddConformer(conformer)
    (tmp_path / "known.sdf").write_text(Chem.MolToMolBlock(block) + "$$$$\n")
    settings = DockSettings(
        "[He]",
        host=str(tmp_path / "cage.xyz"),
        **options(tmp_path, poses=4, fmax=1e-4, region=RegionSettings(around=str(tmp_path / "known.sdf"), radius=0.4)),
    )
    run_dock(settings, calculator=LennardJones(sigma=2.6, epsilon=0.01, rc=10.0))
    best = rows(tmp_path)[0]
    assert float(best["rmsd_A"]) < 0.01
    assert best["height_A"] == ""


def test_the_command(tmp_path, capsys):
    save_model(surface_model(), tmp_path / "model.safetensors")
    words = (
        f"dock CO --model {tmp_path}/model.safetensors --poses 3 --steps 5 --output {tmp_path}/dock --progress false"
    )
    code = main([*words.split(), "--region.heights", "[2.5, 4]"])
    assert code in (0, None)
    assert len(rows(tmp_path)) == 3
