"""Fine-tunings that add a surface, wire or site to a base."""

import json
import logging

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.morse import MorsePotential
from ase.io import read, write

from ik_e3nn.data.generation.steele import SteeleWall
from ik_e3nn.errors import ConfigError, DataError, MissingInputError, ModelFileError
from ik_e3nn.graph import build_graph
from ik_e3nn.models import (
    InteratomicPotential,
    LastLayerEnsemble,
    load_model,
    read_model_info,
    save_model,
    save_uncertainty,
    with_uncertainty,
)
from ik_e3nn.models.uncertainty.last_layer import directions_of
from ik_e3nn.training import (
    DataConfig,
    FinetuneConfig,
    MethodConfig,
    OptimizerConfig,
    RunConfig,
    TrainConfig,
    evaluate,
    finetune,
)
from ik_e3nn.training.config.calibrate import CalibrationSettings
from ik_e3nn.training.finetuning.beside import check_places
from ik_e3nn.training.finetuning.task import Finetuning
from ik_e3nn.training.inference.evaluation import EvalSettings
from ik_e3nn.training.tasks.tasks import Task
from ik_e3nn.training.uncertainty.calibration import calibrate
from tests.training.helpers import MODEL, RUN, structures
from tests.training.kinds import potential

WALL = {"group": "Cinfv", "inputs": ["surface"]}
METHODS = [{}, {"method": "head"}, {"method": "lora"}, {"method": "surroundings"}, {"frozen_blocks": 1}]


def over_wall(count=12, seed=0, heights=(2.6, 6.0)):
    """Water over Steele's wall, with the labels of a Morse potential and the wall."""
    rng, result = np.random.default_rng(seed), []
    for _ in range(count):
        atoms = molecule("H2O")
        atoms.rotate(rng.uniform(0, 180), rng.normal(size=3))
        atoms.positions += 0.05 * rng.standard_normal(atoms.positions.shape)
        atoms.positions[:, 2] += rng.uniform(*heights) - atoms.positions[:, 2].min()
        parts = [atoms.copy(), atoms.copy()]
        parts[0].calc = MorsePotential(r0=1.5, epsilon=0.2, rho0=2.0, rcut1=3.0, rcut2=3.9)
        parts[1].calc = SteeleWall()
        atoms.info["REF_energy"] = sum(part.get_potential_energy() for part in parts)
        atoms.arrays["REF_forces"] = sum(part.get_forces() for part in parts)
        result.append(atoms)
    return result


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("train.xyz", over_wall())
    write("old.xyz", structures(10, seed=3, crystals=False))
    save_model(potential(("H", "O")), "base.safetensors")
    return tmp_path


def config(*, train="train.xyz", model=WALL, data=None, run=None, optimizer=None, **method):
    return FinetuneConfig(
        data=DataConfig(**({"train": train, "valid": 3} | (data or {}))),
        model=model,
        optimizer=OptimizerConfig(**({"lr": 0.02, "warmup_steps": 2} | (optimizer or {}))),
        run=RunConfig(**(RUN | {"output": "run", "max_epochs": 1} | (run or {}))),
        finetune=MethodConfig(**({"base": "base.safetensors"} | method)),
    )


def predicted(model, atoms):
    return model.double().eval()(build_graph(atoms, model.r_max, dtype=torch.float64))


def same(one, other, atoms):
    before, after = predicted(one, atoms), predicted(other, atoms)
    assert before["forces"].abs().max() > 1e-3
    for name in ("energy", "forces"):
        torch.testing.assert_close(after[name], before[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_every_method_starts_from_the_energy_of_the_base(data, method) -> None:
    task = Finetuning(config(run={"dtype": "float64"}, **method))
    assert task.module.model.inputs == {"surface"}
    same(potential(("H", "O")), task.initial, over_wall(1)[0])
    far = over_wall(1, heights=(40.0, 40.0))[0]
    same(potential(("H", "O")), task.module.model, far)  # near the wall its field is fitted to the data
    assert task.module.model.field.linear.weight.any()
    assert not task.module.model.place_embedding.linear.weight.any()


@pytest.mark.parametrize("group", ["Cinfv", "SO2"])
def test_surroundings_alone_leave_the_base_as_it_is_far_away(data, group) -> None:
    result = finetune(config(model=WALL | {"group": group}, method="surroundings", run={"dtype": "float64"}))
    trained, base = load_model(result.model), potential(("H", "O"))
    far, near = molecule("H2O"), molecule("H2O")
    far.positions[:, 2] += 40.0
    near.positions[:, 2] += 2.5
    same(base, trained, far)
    change = predicted(trained, near)["forces"] - predicted(base, near)["forces"]
    assert change.abs().max() > 1e-3
    report = json.loads((data / "run/finetune.json").read_text())
    assert report["new_surroundings"] == f"surface, group {group}"
    assert report["settings"]["finetune.E0s"] == "base"
    assert not report["warning"]  # nothing can be forgotten


def test_uncertainty_of_the_base_is_kept_far_away(data) -> None:
    base, weights = potential(("H", "O")), torch.Generator().manual_seed(0)
    size = base.last_weights.numel()
    root = 0.1 * torch.randn(size, size, generator=weights, dtype=torch.float64) / size**0.5
    sure = LastLayerEnsemble(base, {"energy": root}, directions_of(root, 8))
    sure.calibrate({"energy": 3.0, "forces": 2.0})
    save_uncertainty(sure, "sure.safetensors")
    options = {"method": "surroundings", "uncertainty": "sure.safetensors"}
    result = finetune(config(run={"dtype": "float64", "max_epochs": 3}, **options))
    new = with_uncertainty([load_model(result.model)], "run/uncertainty.safetensors")
    far, near = (over_wall(1, heights=(height, height))[0] for height in (40.0, 2.6))
    before, after = predicted(sure, far), predicted(new, far)
    for name in ("energy_std", "forces_std"):
        assert before[name].min() > 0
        torch.testing.assert_close(after[name], before[name], rtol=1e-12, atol=0)
        assert not torch.allclose(predicted(new, near)[name], predicted(sure, near)[name], rtol=1e-6)


def test_uncertainty_files_that_cannot_be_kept_are_refused_before_the_run(data) -> None:
    other = InteratomicPotential(["H", "O"], num_channels=4)
    root = 0.1 * torch.eye(other.last_weights.numel())
    save_uncertainty(LastLayerEnsemble(other, {"energy": root}, directions_of(root, 2)), "other.safetensors")
    with pytest.raises(ModelFileError, match="was made for 1 model"):
        finetune(config(method="surroundings", uncertainty="other.safetensors"))
    with pytest.raises(FileNotFoundError, match="there is no uncertainty file none.safetensors"):
        finetune(config(method="surroundings", uncertainty="none.safetensors"))
    with pytest.raises(
        ConfigError, match="uncertainty is 'sure.safetensors', but has no effect, .* `ik-e3nn calibrate`"
    ):
        MethodConfig(method="full", uncertainty="sure.safetensors")
    assert not (data / "run").exists()


def test_an_uncertainty_without_the_new_elements_is_refused_before_the_run(data) -> None:
    base = potential(("H", "O"))
    root = 0.1 * torch.eye(base.last_weights.numel(), dtype=torch.float64)
    save_uncertainty(LastLayerEnsemble(base, {"energy": root}, directions_of(root, 2)), "sure.safetensors")
    frames = over_wall()
    for atoms in frames:
        atoms.symbols = ["S", "H", "H"]
    write("sulfide.xyz", frames)
    with pytest.raises(ConfigError, match="sure.safetensors knows nothing of S, .* calibrate` on the new model"):
        finetune(config(train="sulfide.xyz", method="surroundings", uncertainty="sure.safetensors"))
    assert not list(data.glob("run/*.safetensors"))


@pytest.mark.parametrize("method", METHODS[:3], ids=str)
def test_other_methods_train_the_surroundings_too(data, method) -> None:
    trained = load_model(finetune(config(model=WALL | {"group": "SO2"}, **method)).model)
    for name in ("field", "place_embedding", "factors.places"):
        assert trained.get_parameter(f"{name}.linear.weight").abs().max() > 1e-3, name


def test_a_wall_is_learned_from_few_frames(data) -> None:
    """Labels are those of the base and the wall, so that the surroundings are all that is to be learned."""
    frames = over_wall(23, heights=(2.9, 6.0))
    for atoms in frames:
        wall = atoms.copy()
        wall.calc = SteeleWall()
        inner = predicted(potential(("H", "O")), atoms)
        atoms.info["REF_energy"] = float(inner["energy"]) + wall.get_potential_energy()
        atoms.arrays["REF_forces"] = inner["forces"].numpy() + wall.get_forces()
    write("train.xyz", frames)
    run = {"max_epochs": 8, "batch_size": 4}
    finetune(config(method="surroundings", run=run, optimizer={"lr": 0.05, "ema_decay": 0.5}))
    errors = json.loads((data / "run/finetune.json").read_text())["errors"]["valid"]
    assert errors["after"]["force_rmse_meV_per_A"] < 0.4 * errors["before"]["force_rmse_meV_per_A"]


def test_a_model_with_surroundings_learns_on(data) -> None:
    first = finetune(config(method="surroundings", run={"dtype": "float64"}))
    (data / "first.safetensors").write_bytes(first.model.read_bytes())
    again = config(
        model={}, base="first.safetensors", method="surroundings", run={"output": "again", "dtype": "float64"}
    )
    trained = load_model(finetune(again).model)
    far = molecule("H2O")
    far.positions[:, 2] += 40.0
    same(potential(("H", "O")), trained, far)
    Finetuning.check(config(base="first.safetensors"))  # the same surroundings, named again


def test_new_elements_come_with_surroundings(data) -> None:
    frames = over_wall()
    for atoms in frames[::2]:
        atoms.numbers[atoms.numbers == 8] = 16
    write("sulfide.xyz", frames)
    result = finetune(config(train="sulfide.xyz", method="surroundings", E0s="refit", run={"dtype": "float64"}))
    trained = load_model(result.model)
    assert trained.species == (1, 8, 16)
    base = potential(("H", "O"))
    far = molecule("H2O")
    far.positions[:, 2] += 40.0
    torch.testing.assert_close(
        predicted(trained, far)["forces"], predicted(base, far)["forces"], rtol=1e-11, atol=1e-12
    )


def argon_over_wall(count=40):
    """Single atoms over a face, with the energy -0.3 exp(-z/2) cos(2 pi x / 3) eV and 5 eV at any height."""
    rng, result = np.random.default_rng(0), []
    for _ in range(count):
        x, y, z = rng.uniform([0.0, 0.0, 1.5], [6.0, 6.0, 5.0])
        k, height = 2 * np.pi / 3, -0.3 * np.exp(-z / 2)
        forces = [height * k * np.sin(k * x), 0.0, height / 2 * np.cos(k * x)]
        info = {"REF_energy": 5.0 + height * np.cos(k * x), "surface_cell": [[3.0, 0, 0], [0, 3.0, 0]]}
        result.append(Atoms("Ar", [[x, y, z]], info=info))
        result[-1].arrays["REF_forces"] = np.array([forces])
    alone = Atoms("Ar", [[0.0, 0.0, 99.0]], info=result[0].info | {"REF_energy": 5.0, "config_type": "IsolatedAtom"})
    return [*result, alone]


@pytest.mark.parametrize("kind", ["finetune", "train"])
def test_single_atoms_of_a_new_element_over_a_face(data, kind) -> None:
    """E0 comes from the isolated atom, and the potential of the face from the fit before the training."""
    write("argon.xyz", argon_over_wall(150))
    face = {"group": {"plane": "pmm", "cell": [[3.0, 0.0], [0.0, 3.0]]}, "inputs": ["face"]}
    asked = config(train="argon.xyz", model=face)
    if kind == "finetune":
        task = Finetuning(asked)
        assert "isolated atoms for Ar" in task.module.model.energy_reference_provenance
    else:
        small = {"num_channels": 4, "num_layers": 1, "l_max": 1, "correlation": 1, "r_max": 4.0}
        task = Task(TrainConfig(data=asked.data, model=face | small, run=asked.run))
    model = task.module.model
    e0 = dict(zip(model.species, model.atomic_energy.reference.tolist(), strict=True))
    assert e0[18] == pytest.approx(5.0, abs=1e-6)
    for atoms in argon_over_wall(20)[:-1]:
        forces = predicted(model, atoms)["forces"].numpy()
        np.testing.assert_allclose(forces, atoms.arrays["REF_forces"], rtol=0, atol=0.01)


def test_single_atoms_over_a_wall_must_say_so(data) -> None:
    """Nothing tells an atom over a wall that is at the origin by default from an isolated one."""
    frames = [*over_wall(), Atoms("O", [[0.0, 0.0, 3.0]], info={"REF_energy": -4.0})]
    write("single.xyz", frames)
    message = "structure 12 of single.xyz is a single atom .O., and nothing says whether it is isolated"
    with pytest.raises(DataError, match=message):
        finetune(config(train="single.xyz"))
    with pytest.raises(DataError, match=message):
        Task(TrainConfig(data=DataConfig(train="single.xyz", valid=3), model=WALL, run=RunConfig(**RUN)))
    frames[-1].info["config_type"] = "IsolatedAtom"
    write("marked.xyz", frames)
    assert len(Finetuning(config(train="marked.xyz")).data.isolated) == 1
    for atoms in frames:
        atoms.info |= {"surface_origin": [0.0, 0.0, 0.0], "config_type": "md"}
    write("over.xyz", frames)
    assert len(Finetuning(config(train="over.xyz")).data.isolated) == 0


def test_inputs_of_the_base_stay(data) -> None:
    torch.manual_seed(0)
    base = InteratomicPotential(["H", "O"], **MODEL, inputs=["total_charge", "bond_types"]).eval()
    save_model(base, "charged.safetensors")
    frames = over_wall()
    for atoms in frames:
        atoms.info |= {"charge": 1, "bonds": [[0, 1, 1], [0, 2, 1]]}
    write("charged.xyz", frames)
    task = Finetuning(config(train="charged.xyz", base="charged.safetensors", run={"dtype": "float64"}))
    assert task.module.model.inputs == {"total_charge", "bond_types", "surface"}
    same(base, task.initial, frames[0])
    assert "model.inputs: asked for ['surface'], is ['bond_types', 'surface', 'total_charge']" in str(
        [f"{one['setting']}: asked for {one['asked']}, is {one['resolved']}" for one in task.facts["changes"]]
    )


@pytest.mark.parametrize(
    ("kind", "group", "vectors"),
    [
        ("surface", "C4v", True), ("wire", "Dinfh", False), ("site", "C1", False),
        ("face", {"plane": "p4m", "cell": [[3.0, 0.0], [0.0, 3.0]]}, True),
    ],
)  # fmt: skip
def test_replayed_structures_feel_no_surroundings(data, kind, group, vectors) -> None:
    """The base predicts the same energies and forces of old data before and after they are put beside the wall."""
    frames = over_wall()
    for atoms in frames if vectors else []:
        atoms.info |= {"surface_normal": [0, 0.6, 0.8], "surface_origin": [0, 0, -1.0], "surface_x": [1.0, 0, 0]}
        atoms.info["surface_cell"] = np.array([[3.1, 0, 0], [0, 2.32, -1.74]])
    write("train.xyz", frames)
    old = read("old.xyz", ":")
    old[3].info["surface_origin"] = [0.0, 0.0, 1.0]  # has no meaning for the base
    write("old.xyz", old)
    asked = {"group": group, "inputs": [kind]}
    task = Finetuning(config(model=asked, replay="old.xyz", replay_ratio=0.5, run={"dtype": "float64"}))
    replayed, left = task.data.sets["train"].structures[9:], task.data.sets["old domain"].structures
    assert len(replayed) == 4
    model, base = task.module.model, potential(("H", "O"))
    with torch.no_grad():
        model.field.linear.weight.normal_()
        model.place_embedding.linear.weight.normal_()
    for atoms in [*replayed, *left]:
        same(base, model, atoms)
    labels = task.data.sets["train"].values["energy"][9:]
    known = [atoms.info["REF_energy"] for atoms in old]
    assert all(np.abs(np.array(known) - one).min() < 1e-9 for one in labels)  # E0s stay, so that labels do
    if vectors:
        train = next(iter(task.graphs["train"]))
        assert {"surface_normal", "surface_origin", "surface_x"} <= set(train.keys())


def test_old_crystals_cannot_be_put_far_away(data) -> None:
    save_model(potential(("H", "O", "Cu")), "base.safetensors", overwrite=True)
    write("all.xyz", structures(9))
    with pytest.raises(DataError, match=r"old data .*all.xyz.* is periodic in a direction in which the surface fixes"):
        Finetuning(config(replay="all.xyz"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"model": {"group": "Cinfv"}},
            r"model.group is 'Cinfv', but the base has .*model.inputs can add a surf",
        ),
        ({"model": {"inputs": ["surface"]}}, "surroundings cannot be added to the base: the group O3 does not keep"),
        ({"model": WALL | {"num_channels": 8}}, "model.num_channels is 8, but the base has 6"),
        ({"model": {"group": "C1", "inputs": ["surface", "site"]}}, "one kind of surroundings at most; got site, surf"),
        (
            {"model": WALL | {"inputs": ["surface", "spin"]}},
            "model.inputs has spin, but the inputs of the base are none",
        ),
        ({"model": {**WALL, "field_degree": 4}}, "only a site or a wire has functions of directions"),
        ({"model": {"group": "O", "inputs": ["site"]}}, r"group O has layers of SO\(3\)"),
        ({"base": "axial.safetensors"}, "group of the model is Cinfv; surroundings can be added to O3 alone"),
        ({"base": "slit.safetensors"}, "model.group is 'Cinfv', but the base has .*Dinfh"),
        ({"base": "face.safetensors"}, "model.group is 'Cinfv', but the base has .*p4m"),
        (
            {"base": "face.safetensors", "model": {"group": "Cinfv"}},
            r"model.group is 'Cinfv': group of a potential with inputs: \[face\] must be a plane group",
        ),
        ({"model": {}, "method": "surroundings"}, "method is 'surroundings', but the model has no surroundings.*; add"),
        ({"model": {"cave": 1}}, "unknown setting 'model.cave'"),
        ({"method": "head", "optimizer": {"weight_decay": 0.1}}, "weights that share tensors with .* surroundings"),
    ],
)
def test_what_does_not_fit_is_a_clear_error(data, options, message) -> None:
    save_model(InteratomicPotential(["H", "O"], **MODEL, group="Cinfv"), "axial.safetensors")
    save_model(InteratomicPotential(["H", "O"], **MODEL, group="Dinfh", inputs=["surface"]), "slit.safetensors")
    face = {"plane": "p4m", "cell": [[3.0, 0.0], [0.0, 3.0]]}
    save_model(InteratomicPotential(["H", "O"], **MODEL, group=face, inputs=["face"]), "face.safetensors")
    with pytest.raises(ConfigError, match=message):
        finetune(config(**options))


def test_settings_of_the_method() -> None:
    with pytest.raises(ConfigError, match="lr_decay is 0.5, but has no effect, because method is 'surroundings'"):
        MethodConfig(method="surroundings", lr_decay=0.5)
    with pytest.raises(ConfigError, match="method is 'surroundings', but models of properties have none"):
        FinetuneConfig(DataConfig("a.csv", targets=["gap"]), finetune=MethodConfig(method="surroundings"))
    assert config(model={}).references == "refit"
    assert config().references == config(model={}, method="surroundings").references == "base"
    assert config(E0s="refit").references == "refit"


def test_a_site_has_a_finer_field_and_its_file_says_where_atoms_were(data) -> None:
    site = {"group": "C1", "inputs": ["site"], "field_degree": 3}
    finetune(config(model=site, method="surroundings"))
    model = load_model("run/model.safetensors")
    assert model.config["field_degree"] == 3
    assert model.field.basis.irreps_out.lmax == 3
    places = read_model_info("run/model.safetensors")["training"]["geometry"]["places"]
    oxygen = np.array([atoms.positions[0] for atoms in read("train.xyz", ":")])
    distances = np.linalg.norm(oxygen[:, None] - 0.75 * np.array(places["O"]), axis=2)
    assert 1 < len(places["O"]) <= len(oxygen) - 3  # three are for validation
    assert distances.min(axis=0).max() <= 0.375 * 3**0.5 + 1e-6


def test_data_without_surroundings_are_refused(data) -> None:
    write("far.xyz", over_wall(heights=(30.0, 40.0)))
    with pytest.raises(DataError, match=r"nothing can be learned of the surface: .* is 3\d\.\d A from it, .* sees 8 A"):
        finetune(config(train="far.xyz"))
    some = over_wall()
    for atoms in some:
        atoms.info["surface_normal"] = [0, 0, 1]
    write("some.xyz", some)
    with pytest.raises(MissingInputError, match="the structure must give .*surface_x"):
        finetune(config(train="some.xyz", model=WALL | {"group": "C4v"}))
    del some[4].info["surface_normal"]
    write("some.xyz", some)
    with pytest.raises(MissingInputError, match="1 of .* structures have no info..surface_normal"):
        finetune(config(train="some.xyz"))


@pytest.mark.parametrize(("asked", "warned"), [(WALL, True), ({"group": "Dinfh", "inputs": ["surface"]}, False)])
def test_molecules_that_are_cut_by_the_wall_are_said(data, caplog, asked, warned) -> None:
    frames = over_wall()
    frames[5].positions[:, 2] -= frames[5].positions[:, 2].mean()
    write("cut.xyz", frames)
    Finetuning(config(train="cut.xyz", model=asked))
    assert ("have atoms on both sides of the surface" in caplog.text) == warned


def test_energies_with_another_zero_are_said(data, caplog) -> None:
    Finetuning(config())
    assert "per atom from those of the base" in caplog.text  # labels of the Morse potential have no energies of atoms
    caplog.clear()
    Finetuning(config(E0s="refit"))
    assert "per atom from those of the base" not in caplog.text


def test_files_reports_and_errors_know_the_surroundings(data, caplog) -> None:
    with caplog.at_level(logging.INFO):
        result = finetune(config(method="lora", old_domain="old.xyz"))
    page = (data / "run/finetune.md").read_text()
    assert "New surroundings: surface, group Cinfv." in page
    assert "the base with the new elements and surroundings" in page
    assert "model.group: asked for 'Cinfv'" in page
    errors = json.loads((data / "run/finetune.json").read_text())["errors"]
    assert set(errors) == {"valid", "old domain"}
    heights = read_model_info(result.model)["training"]["geometry"]["heights"]
    assert 2.0 < heights["O"][0] < heights["O"][1] < 10.0
    evaluate(EvalSettings(str(result.model), "train.xyz", "predicted.xyz"))
    assert isinstance(read("predicted.xyz"), Atoms)


def test_an_uncertainty_is_calibrated_for_the_new_model(data) -> None:
    """Far from the wall its last layer is that of the base, so that standard deviations are the base's too."""
    result = finetune(config(method="surroundings"))
    write("more.xyz", over_wall(24, seed=5))
    for model, output in ((str(result.model), "near.safetensors"), ("base.safetensors", "base_sure.safetensors")):
        calibrate(
            CalibrationSettings(model, "more.xyz", train="train.xyz", output=output, progress=False, device="cpu")
        )
    far, near = molecule("H2O"), molecule("H2O")
    far.positions[:, 2] += 40.0
    near.positions[:, 2] += 2.8
    sure = with_uncertainty([load_model(result.model, device="cpu")], "near.safetensors")
    for atoms in (far, near):
        found = sure(build_graph(atoms, sure.members[0].r_max))
        assert found["energy_std"] > 0
        assert (found["forces_std"] > 0).any()
    with pytest.raises(ModelFileError, match="made for 1 model.* with other weights"):
        with_uncertainty([load_model(result.model, device="cpu")], "base_sure.safetensors")
    base = potential(("H", "O"))
    trained = load_model(result.model).double()
    features = [model.last_layer(model.prepare(build_graph(far, model.r_max))) for model in (base.double(), trained)]
    torch.testing.assert_close(features[1], features[0], rtol=1e-6, atol=1e-7)


def test_places_are_those_of_the_structures_frame(data) -> None:
    """A wall across x, over which all atoms are within reach, although z is large."""
    frames = over_wall(3)
    for atoms in frames:
        atoms.rotate(90, "y")  # z to x
        atoms.positions[:, 2] += 500.0
        atoms.info["surface_normal"] = [1.0, 0.0, 0.0]
    task = Finetuning(config())
    check_places(task.new.select([0, 1, 2]), task.module.model)
    turned = type(task.new)(frames, (), {})
    check_places(turned, task.module.model)
    for atoms in frames:
        del atoms.info["surface_normal"]
    with pytest.raises(DataError, match="nothing can be learned"):
        check_places(turned, task.module.model)
