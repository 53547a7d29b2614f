"""Pictures of a training can be read: nothing lies over something else, and numbers have units."""

from itertools import pairwise

import pytest
from matplotlib.figure import Figure

from ik_e3nn.training.inference import plots


@pytest.mark.parametrize("scale", [4e-3, 4e-5, 3.0, 1e4])
@pytest.mark.parametrize(("label", "unit"), [("stress", None), ("polarizability of a molecule and its solvent", "A3")])
def test_labels_of_parity_plots_do_not_overlap(tmp_path, monkeypatch, rng, scale, label, unit) -> None:
    kept: list[Figure] = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: kept.append(figure))
    values = scale * rng.normal(size=200)
    plots.plot_parity(label, values, 1.02 * values, tmp_path / "a.png", unit=unit)
    [figure] = kept
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
    assert axes.get_xlabel().endswith("eV/A$^3$)" if unit is None else "A3)")
