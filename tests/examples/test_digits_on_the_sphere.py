"""The example of digits on the sphere: what it compares is what it says."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from ik_e3nn.basis import SphereTransform, spherical_irreps
from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.testing import representation

PATH = Path(__file__).parents[2] / "examples" / "07_digits_on_the_sphere.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("digits_on_the_sphere", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_spherical_network_does_not_see_turns_and_the_planar_one_does(example):
    signals = example.project(torch.rand(20, 8, 8, generator=torch.Generator().manual_seed(0)))
    signals = signals / signals.std()
    turned = example.turn(signals, 5)
    assert torch.allclose(turned.square().sum(1), signals.square().sum(1), rtol=1e-4)
    assert (turned - signals).abs().max() > 0.5
    changes = []
    for network in (example.SphericalNetwork(), example.PlanarNetwork()):
        with torch.no_grad():
            for _ in range(20):
                network(signals)  # running averages of the norms
            network.eval()
            scores = network(signals)
            changes.append(float((network(turned) - scores).norm() / (scores - scores.mean(0)).norm()))
    assert changes[0] < 0.1
    assert changes[1] > 0.5


def test_the_networks_are_of_one_size(example):
    sizes = [sum(p.numel() for p in make().parameters()) for make in (example.SphericalNetwork, example.PlanarNetwork)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


def test_a_turned_image_is_the_image_of_turned_points(example):
    """A quarter turn about the pole moves the projection by a quarter of the azimuths."""
    image = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(1))
    transform = SphereTransform(example.L_MAX, rings=SphereTransform(example.L_MAX + 1).rings)  # 24 azimuths
    values = transform.to_grid(example.project(image))[0]
    quarter = transform.to_grid(example.project(image.rot90(1, (1, 2))))[0]
    shifted = [float((values.roll(k, 1) - quarter).abs().max()) for k in range(24)]
    assert min(shifted) < 1e-4
    assert shifted.index(min(shifted)) in (6, 18)
    assert values.std() > 0.05


def test_a_missing_scikit_learn_is_named(example, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(SystemExit, match=r'pip install "ik-e3nn\[examples\]"'):
        example.load_digits()


def test_turns_are_of_so3(example):
    """The first rotation that turn() draws, by hand."""
    g = SymmetryGroup("SO3").random_elements(64, torch.Generator().manual_seed(7))
    pick = int(torch.randint(64, (1,), generator=torch.Generator().manual_seed(8)))
    x = torch.randn(1, 121)
    expected = x @ representation(spherical_irreps(10), g[pick]).float().T
    assert torch.allclose(example.turn(x, 7), expected, atol=1e-5)
