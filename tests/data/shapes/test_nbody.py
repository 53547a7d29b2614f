import numpy as np
import pytest

from ik_e3nn.data.shapes.nbody import MAX_FORCE, SPRING, simulate_nbody


def times(trajectories):
    return trajectories.interval * np.arange(trajectories.positions.shape[1])


def test_an_unlinked_particle_swings_about_its_height_and_glides_over_the_plane() -> None:
    k = 40.0
    t = simulate_nbody(6, stiffness=k, seed=1, num_particles=1, num_frames=21)
    omega, time = k**0.5, times(t)[None, :, None]
    L, x0, v0 = t.heights[:, None], t.positions[:, :1], t.velocities[:, :1]
    z = L + (x0[..., 2] - L) * np.cos(omega * time) + v0[..., 2] / omega * np.sin(omega * time)
    np.testing.assert_allclose(t.positions[..., 2], z, atol=1e-4)  # phase error omega^3 t dt^2 / 24 = 2e-5
    np.testing.assert_allclose(t.positions[..., :2], (x0 + v0 * time[..., None])[..., :2], atol=1e-12)


def test_two_linked_particles_swing_about_their_center_of_mass() -> None:
    t = simulate_nbody(20, stiffness=0.0, seed=0, num_particles=2, num_frames=41)
    linked, time = t.links[:, 0, 1], times(t)[None, :, None]
    assert linked.any()
    assert not linked.all()
    r, v = t.positions[:, :, 0] - t.positions[:, :, 1], t.velocities[:, :, 0] - t.velocities[:, :, 1]
    omega = (2 * SPRING) ** 0.5
    expected = r[:, :1] * np.cos(omega * time) + v[:, :1] / omega * np.sin(omega * time)
    np.testing.assert_allclose(r[linked], expected[linked], atol=1e-6)
    np.testing.assert_allclose(r[~linked], (r[:, :1] + v[:, :1] * time)[~linked], atol=1e-12)


@pytest.mark.parametrize("stiffness", [0.0, 10.0, 100.0])
def test_energy_is_conserved_to_the_integrators_order(stiffness) -> None:
    t = simulate_nbody(30, stiffness=stiffness, seed=2)
    reach = stiffness * np.abs(t.positions[..., 2] - t.heights[:, None]).max((1, 2))
    free = reach < 0.9 * MAX_FORCE  # not clipped
    assert free.mean() > 0.1
    E = t.energies()[free]
    np.testing.assert_allclose(E, np.broadcast_to(E[:, :1], E.shape), rtol=(stiffness + 1) * 1e-6)  # (omega dt)^2


def test_clipped_forces_accelerate_evenly() -> None:
    t = simulate_nbody(40, stiffness=1e9, seed=0, num_particles=1, num_frames=2, steps_per_frame=5)
    z, v = t.positions[:, 0, 0, 2], t.velocities[:, 0, 0, 2]
    a = -MAX_FORCE * np.sign(z - t.heights[:, 0])
    far = np.abs(z - t.heights[:, 0]) > 0.05
    expected = z + v * t.interval + 0.5 * a * t.interval**2
    np.testing.assert_allclose(t.positions[far, 1, 0, 2], expected[far], atol=1e-12)


def test_starts_have_the_published_statistics() -> None:
    t = simulate_nbody(4000, stiffness=0.0, seed=0, num_frames=1)
    upper = t.links[:, *np.triu_indices(5, 1)]
    assert upper.mean() == pytest.approx(0.5, abs=0.01)
    assert (t.links == t.links.transpose(0, 2, 1)).all()
    assert not t.links[:, range(5), range(5)].any()
    assert t.positions.std() == pytest.approx(0.5, abs=0.005)
    np.testing.assert_allclose(np.linalg.norm(t.velocities, axis=-1), 0.5)
    assert np.quantile(t.heights, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.02)
    assert t.velocities.mean((0, 1, 2)) == pytest.approx([0, 0, 0], abs=0.01)


def test_a_seed_gives_the_same_systems_whatever_the_stiffness() -> None:
    first, again, stiff, other = (
        simulate_nbody(3, stiffness=k, seed=seed, num_frames=2) for k, seed in ((1, 0), (1, 0), (50, 0), (1, 1))
    )
    np.testing.assert_array_equal(first.positions, again.positions)
    np.testing.assert_array_equal(first.positions[:, 0], stiff.positions[:, 0])
    np.testing.assert_array_equal(first.links, stiff.links)
    assert not np.allclose(first.positions, other.positions)


def test_impossible_numbers_are_named() -> None:
    with pytest.raises(ValueError, match="stiffness must be at least 0; got -1"):
        simulate_nbody(3, stiffness=-1.0, seed=0)
    with pytest.raises(ValueError, match="num_systems must be at least 1; got 0"):
        simulate_nbody(0, stiffness=1.0, seed=0)
