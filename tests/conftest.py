"""Shared by all tests: every test starts from the same random state."""

import random

import numpy as np
import pytest
import torch

SEED = 20231210


@pytest.fixture(autouse=True)
def _seed() -> None:
    random.seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002 - ASE and other libraries draw from the global state
    torch.manual_seed(SEED)


@pytest.fixture
def rng() -> np.random.Generator:
    """A NumPy generator with a fixed seed."""
    return np.random.default_rng(SEED)
