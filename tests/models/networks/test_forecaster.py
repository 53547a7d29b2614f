import pytest
import torch

from ik_e3nn.models import Forecaster
from ik_e3nn.models.networks.roll_out import RollOut
from ik_e3nn.symmetry import SymmetryGroup

ELAPSED, TIMES = 2.0, (1.0, -2.0)


def inputs(systems=3, particles=5):
    generator = torch.Generator().manual_seed(0)
    x, v = (torch.randn(systems, particles, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    return x, v, torch.rand(systems, particles, 1, generator=generator, dtype=torch.float64)


def forecaster(group, **options):
    """A network with forces: weights that are zero at first are not here."""
    torch.manual_seed(0)
    model = Forecaster(group, 1, **{"channels": 8, "num_layers": 1, "step": 0.5, **options}).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model.eval()


def forecast(model, x, v, s, elapsed=ELAPSED, times=TIMES):
    return model(x, v, s, torch.full((len(x),), elapsed, dtype=x.dtype), torch.tensor(times, dtype=x.dtype))


@pytest.mark.parametrize("group", ["SO2", "Cinfv", "O3", "SO3", "C3v", "C4v", "C1"])
def test_it_commutes_with_its_group_and_with_no_more(group):
    model, (x, v, s) = forecaster(group), inputs()
    y = forecast(model, x, v, s)
    for g in SymmetryGroup(group).random_elements(3, torch.Generator().manual_seed(0)):
        torch.testing.assert_close(forecast(model, x @ g.T, v @ g.T, s), y @ g.T, atol=1e-10, rtol=0)
    others = {"O3": [], "SO3": [], "C3v": ["SO3", "SO2"], "C4v": ["SO3", "SO2"], "C1": ["SO3", "SO2"]}
    for other in others.get(group, ["SO3"]):
        g = SymmetryGroup(other).random_elements(1, torch.Generator().manual_seed(1))[0]
        assert (forecast(model, x @ g.T, v @ g.T, s) - y @ g.T).abs().max() > 1e-3


@pytest.mark.parametrize(("group", "free"), [("SO2", [1, 1, 0]), ("O3", [1, 1, 1]), ("C1", [0, 0, 0])])
def test_shifts_matter_only_along_directions_that_the_group_leaves_alone(group, free):
    model, (x, v, s) = forecaster(group), inputs()
    y = forecast(model, x, v, s)
    for axis in range(3):
        shift = torch.zeros(3, dtype=torch.float64)
        shift[axis] = 0.7
        error = (forecast(model, x + shift, v, s) - y - shift).abs().max()
        assert (error < 1e-10) == bool(free[axis])


def test_the_order_of_particles_and_the_other_systems_do_not_matter():
    model, (x, v, s) = forecaster("SO2"), inputs()
    y, order = forecast(model, x, v, s), torch.tensor([3, 1, 4, 0, 2])
    permuted = forecast(model, x[:, order], v[:, order], s[:, order])
    torch.testing.assert_close(permuted, y[:, :, order], atol=1e-10, rtol=0)
    torch.testing.assert_close(forecast(model, x[:1], v[:1], s[:1]), y[:1], atol=1e-10, rtol=0)


def test_at_first_particles_keep_their_velocity_and_both_forces_learn():
    x, v, s = inputs()
    torch.manual_seed(0)
    model = Forecaster("SO2", 1, channels=8).double()
    y = forecast(model, x, v, s)
    torch.testing.assert_close(y, torch.stack([x + t * v for t in TIMES], 1))
    y.square().sum().backward()
    assert model.pair_forces.linear.weight.grad.any()
    assert model.external_forces.push.weight.grad.any()


@pytest.mark.parametrize("group", ["Cinfv", "O3", "C1"])
def test_pair_forces_are_opposite_and_have_a_potential(group):
    """Forces sum to zero for any positions, and their matrix is the Hessian of an energy: it is symmetric."""
    model, (x, v, s) = forecaster(group), inputs()
    forces = model.forces(x, v, s, torch.full((3,), ELAPSED, dtype=torch.float64))
    pair = forces.pair(torch.randn_like(x))
    assert pair.abs().max() > 1e-2
    assert pair.sum(1).abs().max() < 1e-12
    torch.testing.assert_close(forces.coupling, forces.coupling.mT, atol=1e-12, rtol=0)


def test_external_forces_point_only_where_the_group_has_a_direction_and_depend_on_the_place_there():
    x, v, s = inputs()
    elapsed = torch.full((3,), ELAPSED, dtype=torch.float64)
    plane, isotropic = (forecaster(group).forces(x, v, s, elapsed) for group in ("Cinfv", "O3"))
    force = plane.external(x)
    assert force[..., :2].abs().max() < 1e-12
    assert force[..., 2].abs().min() > 0
    torch.testing.assert_close(plane.external(x + torch.tensor([1.0, 2.0, 0.0], dtype=x.dtype)), force)
    assert (plane.external(x + torch.tensor([0.0, 0.0, 0.5], dtype=x.dtype)) - force).abs().max() > 1e-3
    assert isotropic.external(x).abs().max() < 1e-12


def test_every_system_and_every_time_has_its_own_answer():
    model, (x, v, s) = forecaster("Cinfv"), inputs()
    elapsed = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    times = torch.tensor([[1.0, 0.2], [0.5, -1.0], [0.1, 0.0]], dtype=torch.float64)
    y = model(x, v, s, elapsed, times)
    for b in range(3):
        alone = model(x[b : b + 1], v[b : b + 1], s[b : b + 1], elapsed[b : b + 1], times[b])
        torch.testing.assert_close(alone[0], y[b], atol=1e-10, rtol=0)
    torch.testing.assert_close(y[2, 1], x[2])  # after no time


@pytest.mark.parametrize("passes", [0, 1, 2])
def test_every_pass_integrates_back_to_the_start(passes, monkeypatch):
    spans, roll_out = [], RollOut.forward

    def watched(self, forces, positions, velocities, span):
        spans.append(span.tolist())
        return roll_out(self, forces, positions, velocities, span)

    monkeypatch.setattr(RollOut, "forward", watched)
    x, v, s = inputs()
    y = forecast(forecaster("Cinfv", passes=passes), x, v, s)
    assert y.isfinite().all()
    assert spans == [[-ELAPSED] * 3] * passes + [[time] * 3 for time in TIMES]


def test_the_first_derivative_by_time_is_the_velocity():
    model, (x, v, s) = forecaster("Cinfv"), inputs()
    y = forecast(model, x, v, s, times=(1e-4, -1e-4))
    torch.testing.assert_close((y[:, 0] - y[:, 1]) / 2e-4, v, atol=1e-5, rtol=0)


def test_the_second_derivative_by_time_is_the_force():
    model, (x, v, s) = forecaster("Cinfv"), inputs()
    y = forecast(model, x, v, s, times=(1e-3, -1e-3))
    forces = model.forces(x, v, s, torch.full((3,), ELAPSED, dtype=torch.float64))
    acceleration = (y[:, 0] - 2 * x + y[:, 1]) / 1e-6
    torch.testing.assert_close(acceleration, forces.pair(x) + forces.external(x), atol=1e-4, rtol=1e-4)


def test_every_weight_learns():
    x, v, s = inputs()
    model = forecaster("Cinfv")
    forecast(model, x, v, s).square().sum().backward()
    assert [name for name, weight in model.named_parameters() if not weight.grad.any()] == []


@pytest.mark.parametrize("particles", [1, 2])
def test_few_particles_are_a_system_too(particles):
    x, v, s = inputs(2, particles)
    y = forecast(forecaster("Cinfv"), x, v, s)
    assert y.shape == (2, 2, particles, 3)
    assert y.isfinite().all()


@pytest.mark.parametrize("group", ["O3", "Cinfv"])
def test_particles_need_no_scalars(group):
    x, v, s = inputs()
    torch.manual_seed(0)
    y = forecast(Forecaster(group, channels=8).double(), x, v, s[..., :0])
    assert y.isfinite().all()


def test_wrong_shapes_and_numbers_are_named():
    model, (x, v, s) = forecaster("Cinfv"), inputs()
    elapsed, times = torch.ones(3, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"positions must have shape \(B, N, 3\); got \(3, 5\)"):
        model(x[..., 0], v, s, elapsed, times)
    with pytest.raises(
        ValueError, match=r"velocities must have shape \(3, 5, 3\) for these positions; got \(3, 4, 3\)"
    ):
        model(x, v[:, 1:], s, elapsed, times)
    with pytest.raises(ValueError, match=r"scalars must have shape \(3, 5, 1\).*got \(3, 5, 2\)"):
        model(x, v, s.expand(3, 5, 2), elapsed, times)
    with pytest.raises(ValueError, match=r"elapsed must have shape \(3,\).*got \(1,\)"):
        model(x, v, s, elapsed[:1], times)
    for wrong in (times[:0], times.expand(2, 2), times[0]):
        with pytest.raises(ValueError, match=r"times must have shape \(T,\) or \(3, T\), with at least one time; got"):
            model(x, v, s, elapsed, wrong)
    with pytest.raises(ValueError, match=r"elapsed is the time since the start, at least 0; got \[1.0, 1.0, -1.0\]"):
        model(x, v, s, torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64), times)
    for name, arguments in {"elapsed": (elapsed / 0, times), "times": (elapsed, times / 0)}.items():
        with pytest.raises(ValueError, match=f"{name} must be finite; got .*inf"):
            model(x, v, s, *arguments)
    with pytest.raises(ValueError, match="passes of a forecaster must be at least 0; got -1"):
        Forecaster("Cinfv", 1, passes=-1)
    with pytest.raises(ValueError, match="size of a forecaster must be positive and finite; got 0"):
        Forecaster("Cinfv", 1, size=0.0)
