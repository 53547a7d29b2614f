"""A potential and properties trained together: one body, energies with their derivatives, and heads."""

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.morse import MorsePotential
from ase.io import write

from ik_e3nn.data import LabeledSet, StructureDataset
from ik_e3nn.errors import ConfigError
from ik_e3nn.graph import build_graph, build_molecular_graph
from ik_e3nn.models import InteratomicPotential, MolecularPropertyModel, load_model, read_model_info, save_model
from ik_e3nn.targets import MECHANICS, Dipole, Intensive
from ik_e3nn.training import (
    DataConfig,
    FinetuneConfig,
    LossConfig,
    MethodConfig,
    OptimizerConfig,
    RunConfig,
    TrainConfig,
    finetune,
    train,
)
from ik_e3nn.training.finetuning.task import Finetuning
from ik_e3nn.training.inference.prediction import predict
from ik_e3nn.training.objective.loss import Loss
from ik_e3nn.training.sets.prepare import prepare_data
from tests.training.helpers import RUN

TARGETS = {"energy": "energy eV", "forces": "forces eV/A", "mu": "dipole D", "gap": "intensive eV"}
POTENTIAL = {"num_channels": 8, "num_layers": 1, "l_max": 1, "correlation": 1}


def labeled(count, seed=0):
    """Rattled molecules with energies and forces of a Morse potential, and two functions of their geometry."""
    rng, result = np.random.default_rng(seed), []
    for number in range(count):
        atoms = molecule(("H2O", "CH4", "H2CO")[number % 3])
        atoms.rattle(0.08, rng=rng)
        known = atoms.copy()
        known.calc = MorsePotential(r0=1.2, epsilon=0.3, rho0=2.0, rcut1=3.0, rcut2=3.9)
        atoms.info |= {
            "REF_energy": known.get_potential_energy(),
            "mu": atoms.positions[0] - atoms.positions[1:].mean(0),
        }
        atoms.info["gap"] = 5.0 - np.linalg.norm(atoms.info["mu"])
        atoms.arrays["REF_forces"] = known.get_forces()
        result.append(atoms)
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("joint")
    write(path / "train.xyz", labeled(24))
    write(path / "old.xyz", labeled(9, seed=5))
    return path


def config(folder, name, *, kind=TrainConfig, **options):
    data = DataConfig(str(folder / "train.xyz"), targets=options.pop("targets", TARGETS), valid=6)
    model = {"edges": "radius", "r_max": 4.0, "potential": POTENTIAL} if kind is TrainConfig else {}
    run = RunConfig(**(RUN | {"output": str(folder / name), "max_epochs": options.pop("epochs", 12)}))
    return kind(data, model, optimizer=OptimizerConfig(lr=0.02, warmup_steps=5), run=run, **options)


@pytest.fixture(scope="module")
def trained(folder):
    return train(config(folder, "run"))


def make():
    torch.manual_seed(0)
    targets = [*MECHANICS, Dipole("mu", "D"), Intensive("gap", "eV")]
    model = MolecularPropertyModel(["H", "C", "O"], targets, edges="radius", r_max=4.0, potential=POTENTIAL).double()
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.normal_()
    return model.eval()


def test_forces_are_derivatives_of_the_energy_and_agree_with_the_potential_in_it() -> None:
    model, atoms, step = make(), molecule("CH3OH"), 1e-4

    def energy(positions):
        moved = atoms.copy()
        moved.positions = positions
        return float(model(build_molecular_graph(moved, "radius", 4.0, dtype=torch.float64))["energy"])

    graph = build_molecular_graph(atoms, "radius", 4.0, dtype=torch.float64)
    out, alone = model(graph), model.potential(graph)
    assert torch.equal(out["energy"], alone["energy"])
    torch.testing.assert_close(out["forces"], alone["forces"], rtol=1e-12, atol=1e-12)
    for index in ((0, 0), (3, 2)):
        shift = np.zeros((len(atoms), 3))
        shift[index] = step
        numeric = -(energy(atoms.positions + shift) - energy(atoms.positions - shift)) / (2 * step)
        assert float(out["forces"][index]) == pytest.approx(numeric, abs=1e-7)
    assert float(out["forces"].abs().max()) > 1e-3


def test_stress_is_that_of_the_potential() -> None:
    model, atoms = make(), molecule("CH3OH", cell=[5.0, 5.5, 6.0], pbc=True)
    graph = build_graph(atoms, 4.0, dtype=torch.float64, bonds=[])
    torch.testing.assert_close(model(graph, stress=True)["stress"], model.potential(graph, stress=True)["stress"])


def test_one_run_learns_all_targets(folder, trained) -> None:
    model = load_model(trained.model, device="cpu")
    assert [target.name for target in model.targets] == list(TARGETS)
    rows = [line for line in (folder / "run/metrics.csv").read_text().splitlines() if line]
    assert len(rows) == 13
    errors = trained.metrics["valid"]
    names = {"energy_mae_meV_per_atom", "force_mae_meV_per_A", "mu_mae_D", "gap_mae_eV", "mean_mae_over_spread"}
    assert names <= set(errors)
    assert errors["mean_mae_over_spread"] < 0.8
    data = LabeledSet.of_labels(labeled(24))
    forces = np.concatenate([atoms.arrays["REF_forces"] for atoms in data.structures])
    assert errors["force_rmse_meV_per_A"] < 600.0 * np.sqrt(np.mean(forces**2))
    assert read_model_info(trained.model)["references"]["energy"]["provenance"].startswith("least squares")
    for name in ("energy", "forces", "mu", "gap"):
        assert (folder / f"run/parity_valid_{name}.png").exists()


def test_the_loss_is_that_of_a_potential_plus_that_of_properties(rng) -> None:
    targets, settings = [*MECHANICS[:2], Intensive("gap", "eV")], LossConfig(kind="mse", weights={"gap": 3.0})
    data = LabeledSet.of_labels([molecule("H2O"), molecule("CH4")])
    data = data.with_targets(targets)
    values = {"energy": rng.normal(size=2), "forces": rng.normal(size=(8, 3)), "gap": rng.normal(size=2)}
    batch = StructureDataset(LabeledSet(data.structures, tuple(targets), values), 4.0)
    from ik_e3nn.graph import batch_graphs

    joined = batch_graphs([batch[0], batch[1]])
    outputs = {name: torch.tensor(rng.normal(size=value.shape)) for name, value in values.items()}
    whole = float(Loss(settings, targets, {"gap": 2.0})(outputs, joined))
    potential = float(Loss(LossConfig(kind="mse"), MECHANICS[:2])(outputs, joined))
    gap = np.mean(((outputs["gap"].numpy() - values["gap"]) / 2.0) ** 2)
    assert whole == pytest.approx(potential + gap, rel=1e-12)


def test_fine_tuning_a_potential_with_a_property_keeps_its_energies_and_replays_them(folder) -> None:
    torch.manual_seed(2)
    base = InteratomicPotential(["H", "C", "O"], 4.0, **POTENTIAL)
    base.set_energy_reference({1: -1.0, 6: -2.0, 8: -3.0}, "the test")
    base.set_scale(0.4)
    save_model(base.eval(), folder / "base.safetensors", overwrite=True)
    method = MethodConfig(base=str(folder / "base.safetensors"), old_domain=str(folder / "old.xyz"), E0s="base")
    result = finetune(config(folder, "tuned", kind=FinetuneConfig, epochs=1, finetune=method))
    report = read_model_info(result.model)["training"]["finetune"]
    assert report["kept_targets"] == ["energy", "forces"]
    assert report["new_targets"] == ["mu", "gap"]
    before = report["errors"]["old domain"]["before"]
    graphs = StructureDataset(labeled(9, seed=5), 4.0)
    found = predict(base.eval(), graphs).values["energy"]
    wanted = np.array([atoms.info["REF_energy"] for atoms in labeled(9, seed=5)])
    atoms = np.array([len(one) for one in labeled(9, seed=5)])
    assert before["energy_mae_meV_per_atom"] == pytest.approx(1000 * np.abs((found - wanted) / atoms).mean(), rel=1e-4)


def test_what_cannot_be_joint_is_refused(folder) -> None:
    with pytest.raises(ConfigError, match="energy, forces come from a potential: give its arguments as `potential`"):
        MolecularPropertyModel(["H"], [*MECHANICS[:2], Dipole("mu", "D")], edges="radius")
    with pytest.raises(ConfigError, match="no effect, because none of data.targets is energy, forces or stress"):
        config(folder, "x", targets={"mu": "dipole D"}, loss=LossConfig(forces_weight=3.0))


@pytest.mark.parametrize(
    "targets", [{"energy": "energy", "forces": "forces", "gap": "intensive eV"}, {"gap": "intensive eV"}]
)
def test_a_joint_base_keeps_or_replays_its_energies(folder, trained, targets) -> None:
    """However the targets are spelled, and also where the new data have none of them."""
    method = MethodConfig(base=str(trained.model), replay=str(folder / "old.xyz"), replay_ratio=0.3)
    task = Finetuning(config(folder, "again", kind=FinetuneConfig, targets=targets, finetune=method))
    counts = task.data.sets["train"].counts()
    own = 18 if "energy" in targets else 0
    assert counts["energy"] == counts["forces"] == own + 5
    assert counts["gap"] == 18 + 5
    assert task.loss.weights["energy"] > 0


def test_ids_of_the_users_stay_and_splits_do_not_depend_on_the_folder(folder, tmp_path) -> None:
    frames = labeled(8)
    frames[3].info["id"] = "mine"
    hashes = []
    for place in (tmp_path / "a", tmp_path / "b"):
        place.mkdir()
        write(place / "train.xyz", frames)
        data = DataConfig(str(place / "train.xyz"), targets=TARGETS, valid=2)
        hashes.append(prepare_data(TrainConfig(data), edges="radius"))
    assert hashes[0].split_hash == hashes[1].split_hash
    ids = {atoms.info["id"] for one in hashes[0].sets.values() for atoms in one.labeled()}
    assert "mine" in ids
    assert "train.xyz:0" in ids


def test_forces_without_energies(folder) -> None:
    targets = {"forces": "forces", "gap": "intensive eV"}
    result = train(config(folder, "forces", targets=targets, epochs=1))
    assert "force_mae_meV_per_A" in result.metrics["valid"]


def test_validation_data_without_a_property_are_reported(folder, caplog) -> None:
    some = labeled(5, seed=8)
    for atoms in some:
        del atoms.info["gap"]
    write(folder / "nogap.xyz", some)
    data = DataConfig(str(folder / "train.xyz"), targets=TARGETS, valid=str(folder / "nogap.xyz"))
    prepare_data(TrainConfig(data), edges="radius")
    assert "the validation set has no gap labels" in caplog.text
