"""Pictures of a training can be read: nothing lies over something else, and numbers have units."""

from itertools import pairwise

import numpy as np
import pytest

from ik_e3nn.targets import MECHANICS, Extensive
from ik_e3nn.training.inference import plots
from ik_e3nn.training.uncertainty.plot import plot_calibration
from tests.pictures import faults


@pytest.mark.parametrize("scale", [4e-3, 4e-5, 3.0, 1e4])
@pytest.mark.parametrize("target", [MECHANICS[2], Extensive("polarizability of a molecule and its solvent", "A3")])
def test_labels_of_parity_plots_do_not_overlap(tmp_path, drawn, rng, scale, target) -> None:
    values = scale * rng.normal(size=200)
    plots.plot_parity(target, values, 1.02 * values, tmp_path / "a.png")
    [figure] = drawn
    assert not faults(figure)
    [axes] = figure.axes
    figure.draw_without_rendering()
    for axis in (axes.xaxis, axes.yaxis):
        boxes = [text.get_window_extent() for text in axis.get_ticklabels() if text.get_text()]
        assert len(boxes) > 2
        assert not any(one.overlaps(other) for one, other in pairwise(boxes))
        assert not axis.get_offset_text().get_text()
    width = figure.get_window_extent().width
    for text in (axes.title, axes.xaxis.label):
        assert 0 <= text.get_window_extent().x0 < text.get_window_extent().x1 <= width
    assert axes.get_xlabel().endswith("eV/A$^3$)" if target.kind == "stress" else "A3)")


@pytest.mark.parametrize("epochs", [1, 3, 300])
@pytest.mark.parametrize("names", [("force_mae_meV_per_A", "energy_mae_meV_per_atom"), ("polarizability_mae_A3",)])
def test_loss_curves_can_be_read(tmp_path, drawn, rng, epochs, names) -> None:
    columns = ["train/loss", "valid/loss", *(f"valid/{name}" for name in names)]
    rows = [{"epoch": n + 1, **dict.fromkeys(columns, 40.0 / (n + 1) ** 0.7)} for n in range(epochs)]
    plots.plot_loss(rows, tmp_path / "loss.png")
    [figure] = drawn
    assert [len(axes.lines) for axes in figure.axes] == [2, len(names)]
    assert not faults(figure)


def test_calibration_plots_can_be_read(tmp_path, drawn, rng) -> None:
    stds = np.exp(rng.normal(size=400))
    tested = {
        "energy": (0.01 * stds * rng.normal(size=400), 0.01 * stds),
        "forces": (stds * rng.normal(size=400), stds),
        "alpha": (90.0 * stds * rng.normal(size=400), 90.0 * stds),
    }
    plot_calibration(tested, [*MECHANICS[:2], Extensive("alpha", "A3")], tmp_path / "a.png")
    [figure] = drawn
    assert not faults(figure)
