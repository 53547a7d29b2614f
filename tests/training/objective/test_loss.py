import pytest
import torch

from ik_e3nn.targets import MECHANICS
from ik_e3nn.training.config.schema import LossConfig
from ik_e3nn.training.objective.loss import Loss, Term
from ik_e3nn.training.objective.metrics import ErrorSums
from ik_e3nn.training.sets.loader import collate
from tests.training.helpers import graphs, structures
from tests.training.stand_in import PairModel

FUNCTIONS = {
    "mse": torch.nn.functional.mse_loss,
    "mae": torch.nn.functional.l1_loss,
    "huber": lambda a, b: torch.nn.functional.huber_loss(a, b, delta=0.02),
}


def make_batch(count=6):
    return collate([graph.to_dict() for graph in graphs(structures(count))])


def make_outputs(batch, **options):
    model = PairModel(dtype=torch.float32)
    return model(batch, forces=True, stress=True, **options), model


@pytest.mark.parametrize("kind", ["mse", "mae", "huber"])
def test_loss_equals_torch(kind) -> None:
    batch = make_batch()
    outputs, _ = make_outputs(batch)
    weights = {"energy_weight": 0.5, "energy_growth": 4.0, "forces_weight": 3.0, "stress_weight": 5.0}
    config = LossConfig(kind=kind, **weights, huber_delta=0.02 if kind == "huber" else None)
    atoms = torch.bincount(batch["batch"])
    crystals = batch["pbc"].all(1)
    assert crystals.any()
    assert not crystals.all()
    function = FUNCTIONS[kind]
    expected = (
        2 * function(outputs["energy"] / atoms, batch["energy"] / atoms)
        + 3 * function(outputs["forces"].double(), batch["forces"])
        + 5 * function(outputs["stress"][crystals].double(), batch["stress"][crystals])
    )
    torch.testing.assert_close(Loss(config)(outputs, batch), expected)


@pytest.mark.parametrize(("progress", "weight"), [(0.0, 2.0), (0.5, 20.0), (1.0, 200.0)])
def test_the_weight_of_energies_grows_in_the_course(progress, weight) -> None:
    terms = {label: Term(torch.tensor(total), torch.tensor(5)) for label, total in (("energy", 5.0), ("forces", 15.0))}
    loss = Loss(LossConfig(energy_weight=2.0, energy_growth=100.0, forces_weight=7.0))
    assert loss.combine(terms, progress=progress).item() == pytest.approx(weight + 21.0)


def test_energies_alone_keep_their_weight() -> None:
    terms = {"energy": Term(torch.tensor(5.0), torch.tensor(5))}
    loss = Loss(LossConfig(energy_weight=2.0, energy_growth=100.0, forces_weight=0.0))
    assert [loss.combine(terms, progress=t).item() for t in (0.0, 1.0)] == [2.0, 2.0]


def test_total_energies_without_per_atom() -> None:
    batch = make_batch()
    outputs, _ = make_outputs(batch)
    config = LossConfig(kind="mse", energy_per_atom=False, forces_weight=0.0)
    loss = Loss(config)(outputs, batch)
    torch.testing.assert_close(loss, (outputs["energy"] - batch["energy"]).square().mean())


def test_missing_labels_bring_neither_loss_nor_gradient() -> None:
    batch = make_batch()
    batch["energy"][0] = torch.nan
    batch["forces"][2] = torch.nan
    batch["forces"][5, 1] = torch.nan
    outputs, model = make_outputs(batch)
    loss = Loss(LossConfig(kind="mse", forces_weight=1.0, stress_weight=1.0))
    total = loss(outputs, batch)
    total.backward()
    assert torch.isfinite(total)
    assert all(torch.isfinite(p.grad).all() and p.grad.abs().max() > 0 for p in model.parameters())
    counts = {label: int(term.count) for label, term in loss.terms(outputs, batch).items()}
    forces = batch["forces"]
    assert counts == {"energy": 5, "forces": forces.numel() - 4, "stress": 18}
    known = ~torch.isnan(forces)
    expected = (outputs["forces"].double() - forces)[known].square().mean()
    torch.testing.assert_close(loss.terms(outputs, batch)["forces"].total / counts["forces"], expected)


def test_a_batch_without_any_label_is_zero() -> None:
    batch = make_batch()
    batch["energy"][:] = torch.nan
    outputs, _ = make_outputs(batch)
    assert Loss(LossConfig(forces_weight=0.0))(outputs, batch) == 0


def test_errors_over_batches_equal_errors_over_all() -> None:
    loss = Loss(LossConfig(energy_weight=1.0, forces_weight=4.0, stress_weight=2.0))
    model = PairModel().eval()
    sums = ErrorSums(loss=loss)
    atoms = graphs(structures(7))
    energies, forces, stresses = [], [], []
    for part in (atoms[:2], atoms[2:6], atoms[6:]):
        batch = collate([graph.to_dict() for graph in part])
        out = model(batch, stress=True)
        sums.add(out, batch)
        energies.append((out["energy"] - batch["energy"]) / torch.bincount(batch["batch"]))
        forces.append(out["forces"].double() - batch["forces"])
        stresses.append((out["stress"].double() - batch["stress"])[batch["pbc"].all(1)])
    errors = sums.compute()
    for name, parts in (("energy", energies), ("force", forces), ("stress", stresses)):
        unit = {"energy": "meV_per_atom", "force": "meV_per_A", "stress": "meV_per_A3"}[name]
        everything = 1000 * torch.cat(parts)
        assert errors[f"{name}_mae_{unit}"] == pytest.approx(everything.abs().mean().item())
        assert errors[f"{name}_rmse_{unit}"] == pytest.approx(everything.square().mean().sqrt().item())
        assert errors[f"{name}_mae_{unit}"] > 0
    whole = collate([graph.to_dict() for graph in atoms])
    assert errors["loss"] == pytest.approx(float(loss(model(whole, stress=True), whole)))


def test_labels_that_never_occur_have_no_error() -> None:
    batch = make_batch()
    batch["stress"][:] = torch.nan
    sums = ErrorSums([MECHANICS[0], MECHANICS[2]])
    sums.add(PairModel().eval()(batch, stress=True), batch)
    assert set(sums.compute()) == {"energy_mae_meV_per_atom", "energy_rmse_meV_per_atom"}
