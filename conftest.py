"""Examples in docstrings that need optional packages are skipped where these are not installed."""

from importlib.util import find_spec

import pytest

_ENGINES = {"openmmml": ["openmm/factory.py"], "torch_sim": ["torchsim/installed.py", "torchsim/model.py"]}
collect_ignore = [
    f"calculators/ik_e3nn_calculators/{file}"
    for package, files in _ENGINES.items()
    for file in files
    if find_spec(package) is None
]
NEED_CLUSTER = ("graph/points/pyramid.py", "graph/points/clouds.py", "models/networks/point_cloud.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them."""
    if find_spec("torch_cluster") is None:
        for item in items:
            if isinstance(item, pytest.DoctestItem) and str(item.path).endswith(NEED_CLUSTER):
                item.add_marker(pytest.mark.skip(reason="needs torch-cluster"))
