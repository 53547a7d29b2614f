import math

import pytest
import torch

from ik_e3nn.models.networks.roll_out import Forces, RollOut, coupling_matrix

PAIRS = torch.triu_indices(3, 3, 1)


def springs(stiffness, trap):
    """Three particles joined by equal springs, and tied to z = 0 by other ones."""
    K = stiffness * torch.eye(3, dtype=torch.float64).expand(1, 3, 3, 3)
    zeros = torch.zeros(3, 1, dtype=torch.float64)
    slope = torch.diag(torch.tensor([0.0, 0.0, -trap], dtype=torch.float64))
    steady, offset = torch.zeros(1, 3, 3, dtype=torch.float64), torch.zeros(1, 3, 1, dtype=torch.float64)
    return Forces(coupling_matrix(K, *PAIRS, 3), offset, zeros, zeros.T, steady, slope)


def bent():
    """Pair forces that differ in direction, and external forces that are not linear."""
    generator = torch.Generator().manual_seed(0)
    random = lambda *shape: 0.5 * torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    K = random(1, 3, 3, 3)
    K = K @ K.mT
    weight = random(1, 4)
    axis = torch.tensor([[0.0], [0.0], [1.0]], dtype=torch.float64)
    return Forces(coupling_matrix(K, *PAIRS, 3), random(1, 3, 4), axis * weight, weight.T * axis.T * -2.0,
                  random(1, 3, 3) * axis[:, 0], -axis * axis.T)  # fmt: skip


def start():
    generator = torch.Generator().manual_seed(1)
    return (torch.randn(1, 3, 3, generator=generator, dtype=torch.float64) for _ in range(2))


def span(time):
    return torch.tensor([time], dtype=torch.float64)


@pytest.mark.parametrize("time", [1.3, -1.3])
def test_springs_swing_as_the_analytic_solution_says(time):
    x, v = start()
    k, trap = 0.4, 6.0
    y, w, path = RollOut(0.00325, 3)(springs(k, trap), x, v, span(time))
    center, drift = x.mean(1, keepdim=True), v.mean(1, keepdim=True)
    for axis in range(3):
        inner, outer = (3 * k + trap * (axis == 2)) ** 0.5, (trap * (axis == 2)) ** 0.5 or 1e-6
        swing = lambda a, b, omega: a * math.cos(omega * time) + b * math.sin(omega * time) / omega  # noqa: E731
        total = lambda a, b, omega: (a * math.sin(omega * time) + b * (1 - math.cos(omega * time)) / omega) / omega  # noqa: E731
        parts = [(x - center, v - drift, inner), (center, drift, outer)]
        assert (y - sum(swing(*part) for part in parts))[..., axis].abs().max() < 1e-4
        assert (path - sum(total(*part) for part in parts))[..., axis].abs().max() < 1e-3
    backward, velocity, _ = RollOut(0.00325, 3)(springs(k, trap), y, w, span(-time))
    torch.testing.assert_close(backward, x)
    torch.testing.assert_close(velocity, v)


def test_the_error_falls_with_the_square_of_the_step():
    x, v = start()
    exact = RollOut(2 / 512, 4)(bent(), x, v, span(2.0))[0]
    errors = [(RollOut(2 / steps, 2)(bent(), x, v, span(2.0))[0] - exact).norm() for steps in (8, 16, 32)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)


def test_time_runs_backwards_exactly_even_in_long_steps():
    x, v = start()
    y, w, path = RollOut(2 / 3, 2)(bent(), x, v, span(2.0))
    assert (y - x).abs().max() > 0.1
    back, velocity, returned = RollOut(2 / 3, 2)(bent(), y, w, span(-2.0))
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(velocity, v)
    torch.testing.assert_close(returned, -path)


def test_energy_of_springs_is_conserved_over_many_oscillations():
    x, v = start()
    k, trap = 0.4, 60.0

    def energy(x, v):
        differences = x[:, PAIRS[1]] - x[:, PAIRS[0]]
        return (v**2).sum() / 2 + k * (differences**2).sum() / 2 + trap * (x[..., 2] ** 2).sum() / 2

    before, roll = float(energy(x, v)), RollOut(0.01, 4)
    for _ in range(20):  # 25 oscillations along z
        x, v, _ = roll(springs(k, trap), x, v, span(1.0))
        assert float(energy(x, v)) == pytest.approx(before, rel=1e-3)


def test_pair_forces_conserve_momentum_and_symmetric_ones_angular_momentum():
    x, v = start()
    free = bent()._replace(
        push=torch.zeros(4, 3, dtype=torch.float64),
        steady=torch.zeros(1, 3, 3, dtype=torch.float64),
        slope=torch.zeros(3, 3, dtype=torch.float64),
    )
    _, w, _ = RollOut(0.4, 1)(free, x, v, span(2.0))
    torch.testing.assert_close(w.sum(1), v.sum(1))
    assert (w - v).abs().max() > 0.1
    y, w, _ = RollOut(0.4, 1)(springs(0.4, 0.0), x, v, span(2.0))
    torch.testing.assert_close(torch.cross(y, w, dim=2).sum(1), torch.cross(x, v, dim=2).sum(1))


def test_systems_with_other_times_do_not_matter_and_last_steps_may_be_short():
    x, v = start()
    forces = bent()
    times = torch.tensor([0.3, 1.2, 2.0, 0.0, -1.3], dtype=torch.float64)
    many = Forces(*(t.expand(5, *t.shape[1:]) if t.ndim == 3 else t for t in forces))
    together = RollOut(0.5, 2)(many, x.expand(5, 3, 3), v.expand(5, 3, 3), times)
    for k, time in enumerate(times):
        alone = RollOut(0.5, 2)(forces, x, v, time[None])
        for one, all_ in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], all_[k])
    exact = RollOut(0.001, 1)(forces, x, v, times[:1])[0]
    assert (together[0][0] - exact[0]).abs().max() < 0.02
    torch.testing.assert_close(together[0][3], x[0])
