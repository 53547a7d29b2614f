import pytest
import torch

from ik_e3nn.models import Forecaster
from ik_e3nn.symmetry import SymmetryGroup


def inputs(systems=3, particles=5):
    generator = torch.Generator().manual_seed(0)
    x, v = (torch.randn(systems, particles, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    return x, v, torch.rand(systems, particles, 1, generator=generator, dtype=torch.float64)


def forecaster(group, **options):
    torch.manual_seed(0)
    model = Forecaster(group, 1, **{"channels": 4, "num_layers": 2, **options}).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model


@pytest.mark.parametrize("group", ["SO2", "Cinfv", "O3", "SO3", "C4v", "C1"])
def test_it_commutes_with_its_group_and_with_no_more(group):
    model, (x, v, s) = forecaster(group), inputs()
    y = model(x, v, s)
    for g in SymmetryGroup(group).random_elements(4, torch.Generator().manual_seed(0)):
        torch.testing.assert_close(model(x @ g.T, v @ g.T, s), y @ g.T, atol=1e-10, rtol=0)
    if group != "O3":
        g = -SymmetryGroup("SO3").random_elements(1, torch.Generator().manual_seed(1))[0]
        assert (model(x @ g.T, v @ g.T, s) - y @ g.T).abs().max() > 1e-4


@pytest.mark.parametrize(("group", "free"), [("SO2", [1, 1, 0]), ("O3", [1, 1, 1]), ("C1", [0, 0, 0])])
def test_shifts_matter_only_along_directions_that_the_group_leaves_alone(group, free):
    model, (x, v, s) = forecaster(group), inputs()
    y = model(x, v, s)
    for axis in range(3):
        shift = torch.zeros(3, dtype=torch.float64)
        shift[axis] = 0.7
        error = (model(x + shift, v, s) - y - shift).abs().max()
        assert (error < 1e-10) == bool(free[axis])


def test_the_order_of_particles_and_the_other_systems_do_not_matter():
    model, (x, v, s) = forecaster("SO2"), inputs()
    y, order = model(x, v, s), torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(model(x[:, order], v[:, order], s[:, order]), y[:, :, order], atol=1e-10, rtol=0)
    torch.testing.assert_close(model(x[:1], v[:1], s[:1]), y[:1], atol=1e-10, rtol=0)


def test_at_first_particles_keep_their_velocity():
    x, v, s = inputs()
    torch.manual_seed(0)
    y = Forecaster("SO2", 1, channels=8).double()(x, v, s)
    torch.testing.assert_close(y, (x + v)[:, None])


def test_every_time_has_its_own_answer_that_starts_as_a_straight_line():
    x, v, s = inputs()
    torch.manual_seed(0)
    model = Forecaster("Cinfv", 1, channels=4, num_layers=1, times=(1.0, -3.0)).double()
    torch.testing.assert_close(model(x, v, s), torch.stack([x + v, x - 3 * v], 1))
    model(x, v, s)[:, 1].sum().backward()
    assert model.linear.weight.grad.any()
    with pytest.raises(ValueError, match="at least one time"):
        Forecaster("Cinfv", 1, times=())


def test_one_particle_is_a_system_too():
    x, v, s = inputs(2, 1)
    assert forecaster("Cinfv")(x, v, s).isfinite().all()


def test_a_plain_network_sees_directions():
    """With scalars alone and no symmetry, turning the system changes the answer in no simple way."""
    model, (x, v, s) = forecaster("C1", l_max=0, channels=8), inputs()
    turned = x[..., [1, 2, 0]]
    assert (model(turned, v, s) - model(x, v, s)).abs().max() > 1e-3
