"""The style of all pictures, and the check that the other tests of pictures rely on."""

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from ik_e3nn.pictures import WIDTH, picture, style
from tests.pictures import faults


def test_the_users_own_settings_change_nothing_and_come_back(tmp_path, drawn):
    with mpl.rc_context({"font.size": 3.0, "axes.labelsize": 3.0, "xtick.labelsize": 3.0}):
        with picture(tmp_path / "a.png") as (_, [[axes]]):
            axes.set_xlabel("x")
        assert mpl.rcParams["font.size"] == 3.0
    assert axes.xaxis.label.get_fontsize() == 9.0
    assert drawn[0].get_figwidth() == WIDTH
    assert not faults(drawn[0])


def test_the_file_has_the_picture(tmp_path, drawn):
    with picture(tmp_path / "a.png", width=3.0) as (_, [[axes]]):
        axes.loglog([1, 10], [1, 10])
    image = mpl.image.imread(tmp_path / "a.png")
    assert image.shape[1] == 3 * 150  # inches, and dots per inch
    assert image[..., :3].min() < 0.5 < image[..., :3].max()  # it is not blank


def test_nothing_is_written_after_an_error(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), picture(path):
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("decades", [0.1, 0.3, 0.5, 0.8, 1.3, 2.2, 4, 9, 20])
def test_ticks_of_logarithmic_axes_are_enough_and_do_not_overlap(tmp_path, drawn, decades):
    with picture(tmp_path / "a.png", 1, 4, height=2.4) as (_, [panels]):
        for axes, start in zip(panels, (1e-6, 3e-2, 1.0, 7e4), strict=True):
            values = np.geomspace(start, start * 10**decades, 9)
            axes.loglog(values, values, "o")
    (figure,) = drawn
    assert not faults(figure)
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = axis.get_view_interval()
        assert sum(low <= place <= high for place in axis.get_majorticklocs()) >= 2


def overlapping(axes):
    axes.text(0.5, 0.5, "one")
    axes.text(0.5, 0.5, "other")


def long_title(axes):
    axes.set_title("a title that is longer than the picture is wide " * 3)


def small_labels(axes):
    axes.tick_params(labelsize=5)


@pytest.mark.parametrize(
    ("draw", "message"),
    [(overlapping, "'one' over 'other'"), (long_title, "leaves the picture"), (small_labels, "has 5.0 points")],
)
def test_the_check_finds_what_cannot_be_read(draw, message):
    with style():
        figure = Figure(figsize=(5, 3), layout="constrained")
        draw(figure.subplots())
    assert any(message in fault for fault in faults(figure))


def test_the_check_finds_ticks_that_matplotlib_lets_overlap():
    figure = Figure(figsize=(11, 3.2))
    axes = figure.subplots(1, 3)[0]
    axes.semilogx([125, 500, 2000, 8000], [1, 2, 3, 4])
    assert any("over" in fault for fault in faults(figure))
