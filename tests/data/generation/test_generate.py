"""Generation: right labels, exact resumption after a kill, failures skipped and told, clear errors."""

import itertools
import logging
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.io import read

from ik_e3nn.data import fit_energy_reference, read_labels
from ik_e3nn.data.generation import labeling
from ik_e3nn.data.generation.generate import GenerateSettings, generate
from ik_e3nn.data.generation.plan import plan_chains, starting_structures
from ik_e3nn.data.generation.work_file import WorkFile
from ik_e3nn.errors import ConfigError, DataError, MissingDependencyError
from ik_e3nn.graph import check_stated, get_bonds, get_shares

SPRINGS = '''
import numpy as np
from ase.calculators.calculator import Calculator, CalculationFailed

class Springs(Calculator):
    """Springs between all atoms, at rest where the first structure seen has them."""

    implemented_properties = ["energy", "forces"]
    calls, stop_at, fail_at, bad_at = 0, None, (), ()
    rest = None

    def calculate(self, atoms=None, properties=None, system_changes=None):
        super().calculate(atoms, properties, system_changes)
        cls = type(self)
        cls.calls += 1
        if cls.calls == cls.stop_at:
            raise KeyboardInterrupt
        if cls.calls in cls.fail_at:
            raise CalculationFailed("SCF not converged")
        vectors = atoms.positions[:, None] - atoms.positions[None]
        lengths = np.sqrt((vectors**2).sum(-1) + np.eye(len(atoms)))
        if cls.rest is None:
            cls.rest = lengths
        stretch = (lengths - cls.rest) * (1 - np.eye(len(atoms)))
        self.results["energy"] = 2.5 * float((stretch**2).sum()) / 2
        self.results["forces"] = -5.0 * (stretch / lengths)[:, :, None] * vectors
        self.results["forces"] = self.results["forces"].sum(1)
        if cls.calls in cls.bad_at:
            self.results["forces"][0] = np.nan
'''


@pytest.fixture
def springs(tmp_path, monkeypatch):
    """A calculator that counts its calls, in a module of the working folder."""
    (tmp_path / "springs.py").write_text(SPRINGS)
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("springs", None)
    labeling._import_class("springs:Springs")
    yield sys.modules["springs"].Springs
    sys.modules.pop("springs", None)


def settings(**changes):
    defaults = {
        "output": "out.xyz",
        "smiles": ["CO"],
        "calculator": "springs:Springs",
        "num_frames": 8,
        "temperatures": [300.0, 600.0],
        "interval": 5,
        "equilibration": 4,
        "num_conformers": 1,
        "relax": False,
    }
    unused = {"rattle": ("temperatures", "interval", "equilibration"), "normal-modes": ("interval", "equilibration")}
    for name in (*unused.get(changes.get("method"), ()), *(["num_conformers"] if changes.get("smiles") == [] else [])):
        del defaults[name]
    return GenerateSettings(**{**defaults, **changes})


@pytest.mark.parametrize("method", ["md", "normal-modes", "rattle"])
def test_frames_carry_labels_bonds_charge_and_spin(springs, method):
    report = generate(settings(method=method))
    assert report.num_frames == 8
    frames = read("out.xyz", ":")
    data = read_labels(frames)
    assert data.counts() == {"energy": 8, "forces": 8, "stress": 0}
    for atoms, label in zip(frames, data.labels, strict=True):
        assert len(get_bonds(atoms)) == 5
        assert (atoms.info["charge"], atoms.info["spin"]) == (0, 1)
        assert atoms.info["config_type"] == method.replace("-", "_")
        check = springs()
        atoms.calc = check
        assert label.energy == pytest.approx(check.get_potential_energy(atoms), abs=1e-6)
        assert np.allclose(label.forces, check.get_forces(atoms), atol=1e-5)
    assert np.median([np.abs(label.forces).max() for label in data.labels]) > 0.1
    if method != "rattle":
        assert [atoms.info["temperature"] for atoms in frames] == [300.0] * 4 + [600.0] * 4
    positions = [atoms.positions for atoms in frames]
    assert min(np.abs(a - b).max() for a, b in itertools.combinations(positions, 2)) > 1e-3


@pytest.mark.parametrize("method", ["md", "normal-modes", "rattle"])
def test_a_killed_run_continues_without_relabeling(springs, method, tmp_path, caplog):
    chosen = settings(method=method, relax=True)
    generate(chosen)
    whole, total = (tmp_path / "out.xyz").read_bytes(), springs.calls
    (tmp_path / "out.xyz").unlink()
    springs.calls = 0
    stops = {"md": [5, 30, 45], "normal-modes": [5, 47], "rattle": [2, 5]}[method]
    for stop in stops:
        springs.stop_at = stop
        with pytest.raises(KeyboardInterrupt):
            generate(chosen)
        assert not (tmp_path / "out.xyz").exists()
        assert (tmp_path / "out.xyz.partial").exists()
    springs.stop_at = None
    with caplog.at_level(logging.INFO, logger="ik_e3nn"):
        report = generate(chosen)
    assert (tmp_path / "out.xyz").read_bytes() == whole
    assert not (tmp_path / "out.xyz.partial").exists()
    assert report.num_reused > 0
    assert "continuing from" in caplog.text
    # Only what was under way at each kill is computed again.
    under_way = {"md": 10, "normal-modes": 40, "rattle": 1}[method]
    assert springs.calls <= total + len(stops) * under_way


def test_a_frame_cut_short_in_the_work_file_is_made_again(springs, tmp_path):
    generate(settings())
    whole = (tmp_path / "out.xyz").read_bytes()
    (tmp_path / "out.xyz").unlink()
    springs.stop_at = springs.calls + 20
    with pytest.raises(KeyboardInterrupt):
        generate(settings())
    springs.stop_at = None
    partial = tmp_path / "out.xyz.partial"
    partial.write_bytes(partial.read_bytes()[:-30])
    generate(settings())
    assert (tmp_path / "out.xyz").read_bytes() == whole


def test_failed_labels_are_skipped_with_a_warning(springs, caplog):
    springs.fail_at, springs.bad_at = {12}, {24}
    report = generate(settings())
    assert report.num_frames == 6
    assert report.failures == {"CalculationFailed: SCF not converged": 1, "the forces are not 6 finite vectors": 1}
    assert "2 frames failed and were skipped: CalculationFailed: SCF not converged (1)" in report.text()
    assert "failed: CalculationFailed: SCF not converged" in caplog.text
    assert len(read("out.xyz", ":")) == 6


def test_nothing_is_written_when_everything_fails(springs, tmp_path):
    springs.fail_at = range(1000)
    with pytest.raises(DataError, match=r"every frame failed: .*SCF not converged \(8\)"):
        generate(settings())
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["springs.py"]


def test_a_start_that_fails_is_an_error(springs):
    springs.fail_at = range(1000)
    with pytest.raises(DataError, match=r"every frame failed: the start failed \(8\)"):
        generate(settings(method="normal-modes"))


def test_a_hopeless_chain_is_given_up(springs):
    springs.fail_at = range(1000)
    with pytest.raises(DataError, match=r"given up after failures in a row \(30\)"):
        generate(settings(num_frames=40, temperatures=[300.0]))
    assert springs.calls == 10


def test_broken_bonds_are_not_kept(springs):
    with pytest.raises(DataError, match="a bond is broken"):
        generate(settings(method="rattle", displacement=3.0, num_frames=3))


def test_a_work_file_of_another_run_is_refused(springs, tmp_path):
    springs.stop_at = 20
    with pytest.raises(KeyboardInterrupt):
        generate(settings())
    springs.stop_at = None
    with pytest.raises(DataError, match="belongs to other settings or structures"):
        generate(settings(seed=1))
    assert generate(settings(seed=1, resume=False)).num_reused == 0


def test_existing_output_is_not_touched(springs, tmp_path):
    (tmp_path / "out.xyz").write_text("mine")
    with pytest.raises(DataError, match="exists already"):
        generate(settings())
    assert springs.calls == 0
    assert (tmp_path / "out.xyz").read_text() == "mine"
    assert generate(settings(overwrite=True)).num_frames == 8


def test_isolated_atoms_give_the_reference_energies(tmp_path):
    chosen = settings(output=f"{tmp_path}/out.xyz", calculator="emt", method="rattle", isolated_atoms=True)
    generate(chosen)
    frames = read(tmp_path / "out.xyz", ":")
    assert [atoms.symbols[0] for atoms in frames[:3]] == ["C", "H", "O"]
    assert frames[0].info["spin"] == 3
    reference = fit_energy_reference(frames, [atoms.info["REF_energy"] for atoms in frames])
    assert reference.source == "isolated atoms (H, C, O)"


def test_frames_are_shared_out_evenly():
    chosen = settings(smiles=["CCO", "O"], num_conformers=2, num_frames=7, temperatures=[300.0, 500.0, 300.0])
    starts = starting_structures(chosen)
    chains = plan_chains(chosen, starts)
    for source in (0, 1):
        counts = [chain.num_frames for chain in chains if chain.source == source]
        assert sum(counts) == 7
        assert max(counts) - min(counts) <= 1
    assert len({(chain.key, chain.temperature) for chain in chains}) == len(chains)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"smiles": []}, "nothing to start from"),
        ({"smiles": "CCO"}, "smiles is 'CCO', but it must be a list"),
        ({"num_frames": 0}, "num_frames is 0, but it must be at least 1"),
        ({"strain": -0.1}, "strain is -0.1, but it must be zero or positive"),
        ({"temperatures": []}, "temperatures are missing; give at least one, in K"),
        ({"temperatures": [-3.0]}, r"temperatures is \[-3.0\], but it must be a list, each item positive"),
        ({"method": "rattle", "friction": 0.1}, "friction is 0.1, but has no effect, because method is 'rattle'"),
        ({"method": "normal-modes", "strain": 0.1}, "strain is 0.1, but .* only rattle uses it; set method to rattle"),
        ({"displacement": 0.1}, "displacement is 0.1, but has no effect, because method is 'md', and only rattle uses"),
        ({"smiles": [], "structures": ["a.xyz"], "num_conformers": 2}, "num_conformers is 2, .* only smiles have conf"),
        ({"method": "magic"}, "method is 'magic', but it must be one of 'md', 'normal-modes', 'rattle'"),
        ({"calculator": "magic"}, "unknown calculator 'magic'; known are gfn2-xtb"),
        ({"calculator": "no.such.module:Thing"}, "'no.such.module:Thing' cannot be imported"),
        ({"calculator": "ase.calculators.emt:Thing"}, "cannot be imported"),
        ({"calculator": "pathlib:Path"}, "which is not called: a calculator must be a subclass"),
        ({"calculator": "ase.calculators.mixing:SumCalculator"}, "cannot be made with"),
        ({"calculator": "emt", "smiles": ["C("]}, "SMILES 'C\\(' cannot be read"),
        (
            {"calculator": "emt", "charge": 1},
            r"multiplicity \(2S\+1\) of 1 is impossible with the 17 electrons of CH4O",
        ),
        ({"calculator": "emt", "smiles": [], "structures": ["no.xyz"]}, "there is no file"),
    ],
)
def test_errors_come_before_any_work(tmp_path, changes, message):
    with pytest.raises((DataError, ConfigError), match=message):
        generate(settings(**{"output": f"{tmp_path}/out.xyz", **changes}))
    assert list(tmp_path.iterdir()) == []


def test_charge_can_be_given(tmp_path):
    chosen = settings(output=f"{tmp_path}/out.xyz", calculator="emt", charge=1, spin=2, method="rattle", num_frames=1)
    generate(chosen)
    assert read(tmp_path / "out.xyz").info["charge"] == 1


def test_starts_keep_the_formal_charges_of_their_atoms(tmp_path):
    out = str(tmp_path / "a.xyz")
    acetate = starting_structures(GenerateSettings(output=out, smiles=["CC(=O)[O-]"]))[0][0]
    assert get_shares(acetate).sum(axis=0).tolist() == [-1, 0]
    with pytest.raises(DataError, match="was set for other atoms than these 8"):
        check_stated(acetate + Atoms("Na"), "charge")
    given = starting_structures(GenerateSettings(output=out, smiles=["CC(=O)[O-]"], charge=-2, spin=2))[0][0]
    assert not get_shares(given).any()


def test_a_missing_xtb_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tblite.ase", None)
    with pytest.raises(MissingDependencyError, match=r'GFN2-xTB need tblite.*: pip install "ik-e3nn\[xtb\]"'):
        generate(settings(calculator="gfn2-xtb"))


def test_a_read_only_folder_is_an_error(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.write_text", refuse)
    with pytest.raises(DataError, match="cannot write the work file .*Permission denied"):
        WorkFile(tmp_path / "a.partial", "run", resume=True)


def test_xtb_runs_are_the_same_after_a_kill(tmp_path, monkeypatch):
    pytest.importorskip("tblite")
    chosen = settings(output=f"{tmp_path}/out.xyz", smiles=["O"], calculator="gfn2-xtb", num_frames=4, relax=True)
    generate(chosen)
    whole = (tmp_path / "out.xyz").read_bytes()
    (tmp_path / "out.xyz").unlink()
    count, forces = itertools.count(), labeling.Labeler.forces

    def interrupted(self, atoms):
        if next(count) == 14:
            raise KeyboardInterrupt
        return forces(self, atoms)

    monkeypatch.setattr(labeling.Labeler, "forces", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate(chosen)
    report = generate(chosen)
    assert report.num_reused >= 2
    assert (tmp_path / "out.xyz").read_bytes() == whole
    data = read_labels(read(tmp_path / "out.xyz", ":"))
    assert data.labels[0].energy == pytest.approx(-137.9, abs=0.5)


def test_a_changed_digit_in_the_work_file_is_noticed(tmp_path, caplog):
    path = tmp_path / "a.partial"
    with WorkFile(path, "run", resume=True) as work:
        for number in range(3):
            work.add(f"frame {number}", {"energy": 1.5 + number})
    path.write_text(path.read_text().replace("2.5", "2.6"))
    with WorkFile(path, "run", resume=True) as work:
        assert [work.get(f"frame {number}") for number in range(3)] == [{"energy": 1.5}, None, {"energy": 3.5}]
        work.add("frame 1", {"energy": 2.5})
    assert f"line 3 of {path} is damaged; its result is made again" in caplog.text
    with WorkFile(path, "run", resume=True) as work:
        assert work.get("frame 1") == {"energy": 2.5}


def test_work_files_of_earlier_versions_are_read(tmp_path):
    path = tmp_path / "a.partial"
    path.write_text('{"format": 1, "run": "run"}\n{"key": "frame 0", "result": {"energy": 1.5}}\n')
    with WorkFile(path, "run", resume=True) as work:
        assert work.get("frame 0") == {"energy": 1.5}
