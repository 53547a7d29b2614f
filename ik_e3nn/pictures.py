"""The common style of all pictures: as wide as a page, with ticks and labels that are readable there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from math import floor, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ik_e3nn.atomic import written_at_once

if TYPE_CHECKING:  # importing matplotlib takes a second, which only code that draws should wait for
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

WIDTH = 7.2  # inches, the width of a page
MOST_TICKS = 7  # on a logarithmic axis
_FIRSTS = ((1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0), (1.0, 2.0, 5.0), (1.0, 3.0), (1.0,))  # digits of a decade's ticks

STYLE: dict[str, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "legend.title_fontsize": 8.0,
    "legend.frameon": False,
    "figure.titlesize": 9.0,
    "figure.labelsize": 9.0,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "savefig.dpi": 150,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the common style, whatever the user's own settings of matplotlib are.

    Example:
        >>> import matplotlib
        >>> with style():
        ...     matplotlib.rcParams["legend.frameon"]
        False
    """
    import matplotlib.style

    with matplotlib.style.context(["default", STYLE]):
        yield


@contextmanager
def picture(
    path: Path, rows: int = 1, columns: int = 1, *, height: float = 3.2, width: float = WIDTH, **subplots: Any
) -> Iterator[tuple[Figure, Any]]:
    """A figure to draw into, which is written when the block ends; after an error, no file has changed.

    Args:
        path: PNG file to write.
        rows: Rows of panels.
        columns: Columns of panels.
        height: Height of the figure (inches).
        width: Width of the figure (inches); beyond the width of a page, its text becomes too small there.
        subplots: Passed on to ``Figure.subplots``.

    Yields:
        The figure, and an array (rows, columns) of its axes.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with picture(Path(folder) / "a.png", width=3.0) as (figure, [[axes]]):
        ...         _ = axes.loglog([1, 10], [1, 10])
        ...     (Path(folder) / "a.png").is_file()
        True
    """
    from matplotlib.figure import Figure  # not pyplot's: no window system and no global state

    with style():
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots(rows, columns, squeeze=False, **subplots)
        save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically, with ticks of logarithmic axes that do not overlap.

    Args:
        figure: The figure.
        path: The file.
    """
    logarithmic = [a for axes in figure.axes for a in (axes.xaxis, axes.yaxis) if a.get_scale() == "log"]
    if logarithmic:
        with style():
            figure.draw_without_rendering()  # determines the room for ticks
    for axis in logarithmic:
        _set_ticks(axis, figure.dpi)
    with style(), written_at_once(path) as file:
        figure.savefig(file, format="png")


def number(value: float) -> str:
    r"""The label of a tick: a plain number if it is short, otherwise a power of ten.

    >>> number(0.02), number(1500.0), number(20_000.0), number(1e-5), number(3e-7)
    ('0.02', '1500', '20k', '$10^{-5}$', '$3\\cdot10^{-7}$')
    """
    if 1e-3 <= value < 1e4:
        return f"{value:g}"
    if 1e4 <= value < 1e6:
        return f"{value / 1000:g}k"
    power = floor(log10(value) + 1e-9)
    first = value / 10.0**power
    return f"$10^{{{power}}}$" if abs(first - 1) < 1e-6 else f"${first:g}\\cdot10^{{{power}}}$"


def _set_ticks(axis: Axis, dpi: float) -> None:
    """Put as many labels on a logarithmic axis as fit, unless the ticks were chosen."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    axis.set_minor_formatter(NullFormatter())
    if isinstance(axis.get_major_locator(), FixedLocator):
        return
    box = axis.axes.get_window_extent()
    across = axis is axis.axes.xaxis
    room = 72 * (box.width if across else box.height) / dpi
    size = float(axis.get_ticklabels()[0].get_fontsize())
    low, high = sorted(axis.get_view_interval())
    for places in _candidates(low, high):
        centers = [room * log10(place / low) / log10(high / low) for place in places]
        halves = [size * (0.35 * len(_seen(number(place))) if across else 0.7) for place in places]
        gaps = [b - a - p - q for a, b, p, q in zip(centers, centers[1:], halves, halves[1:], strict=False)]
        if MOST_TICKS >= len(places) >= 2 and min(gaps) > 0:
            axis.set_major_locator(FixedLocator(places))
            axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
            return


def _candidates(low: float, high: float) -> Iterator[list[float]]:
    """Ticks of a logarithmic axis, most first: within decades, every few decades, at equal distances."""
    from matplotlib.ticker import MaxNLocator

    powers = range(floor(log10(low)), floor(log10(high)) + 1)
    tries = [[first * 10.0**power for power in powers for first in firsts] for firsts in _FIRSTS]
    tries += [[10.0**power for power in powers if power % step == 0] for step in (2, 3, 5, 10)]
    tries += [list(MaxNLocator(count).tick_values(low, high)) for count in (4, 3, 2, 1)]
    yield from ([place for place in places if low <= place <= high] for places in tries)


def _seen(label: str) -> str:
    """The visible characters of a label.

    >>> _seen(number(3e-7))
    '3.10-7'
    """
    return re.sub(r"[$^{}]", "", label.replace(r"\cdot", "."))
