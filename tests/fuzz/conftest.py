"""The fuzz tests' many inputs are left out unless they are asked for with ``-m fuzz``."""

import pytest

from ik_e3nn.models import InteratomicPotential, save_model


def pytest_collection_modifyitems(config, items):
    many = [item for item in items if item.get_closest_marker("fuzz")]
    if many and "fuzz" not in config.option.markexpr:
        config.hook.pytest_deselected(items=many)
        items[:] = [item for item in items if not item.get_closest_marker("fuzz")]


@pytest.fixture
def potential():
    """A small potential in double precision."""
    model = InteratomicPotential(["H", "C", "O"], r_max=3.0, num_channels=4, num_layers=1, correlation=1)
    return model.double().eval()


@pytest.fixture
def model_file(potential, tmp_path):
    """The potential's file."""
    path = tmp_path / "model.safetensors"
    save_model(potential, path)
    return path
