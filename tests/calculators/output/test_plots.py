"""Pictures of runs can be read."""

import numpy as np
import pytest

from ik_e3nn_calculators.output.plots import plot_columns
from tests.pictures import faults


@pytest.mark.parametrize("log_scale", [False, True])
@pytest.mark.parametrize("count", [2, 15, 5000])
def test_curves_over_time_can_be_read(count, log_scale, tmp_path, drawn):
    x = np.arange(count) * 0.005
    curves = {name: 0.1 * 10.0 ** (k - x) for k, name in enumerate(("potential", "kinetic", "total", "goal of all"))}
    labels = ("time (ps)", "energy (eV)")
    plot_columns(tmp_path / "a.png", x, curves, title="C2H6O", labels=labels, goal=0.02, log_scale=log_scale)
    (figure,) = drawn
    assert len(figure.axes[0].lines) == 5
    assert not faults(figure)
