"""Whether a picture can be read at the width of a page."""

from itertools import combinations

from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from ik_e3nn.pictures import WIDTH

SMALLEST = 7.5  # points, at the width of a page


def texts(figure: Figure) -> list[Text]:
    """All texts that are seen: titles, labels, legends, and the labels of ticks within the axes."""
    figure.draw_without_rendering()
    found = []
    for axes in figure.axes:
        if not axes.get_visible() or not axes.axison:
            continue
        for axis in (axes.xaxis, axes.yaxis):
            scale = axis.get_transform()  # logarithmic or not
            low, high = sorted(scale.transform(axis.get_view_interval()))
            slack = 1e-6 * (high - low)
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if low - slack <= scale.transform(tick.get_loc()) <= high + slack:
                    found.append(tick.label1)
            found += [axis.label, axis.get_offset_text()]
        found += [axes.title, *axes.texts]
    legends = [axes.get_legend() for axes in figure.axes] + figure.legends
    found += [text for legend in legends if legend for text in [*legend.get_texts(), legend.get_title()]]
    found += [text for text in (figure._suptitle, figure._supxlabel, figure._supylabel, *figure.texts) if text]
    return [text for text in dict.fromkeys(found) if text.get_visible() and text.get_text().strip()]


def faults(figure: Figure) -> list[str]:
    """Texts that lie over others, leave the figure, or are too small."""
    shown = texts(figure)
    boxes = [Text.get_window_extent(one) if isinstance(one, Annotation) else one.get_window_extent() for one in shown]
    whole = figure.get_window_extent()
    scale = min(1.0, WIDTH / figure.get_figwidth())
    found = []
    for (one, box), (other, second) in combinations(zip(shown, boxes, strict=True), 2):
        if box.shrunk(0.98, 0.9).overlaps(second.shrunk(0.98, 0.9)):
            found.append(f"{one.get_text()!r} over {other.get_text()!r}")
    for one, box in zip(shown, boxes, strict=True):
        if box.x0 < whole.x0 - 1 or box.x1 > whole.x1 + 1 or box.y0 < whole.y0 - 1 or box.y1 > whole.y1 + 1:
            found.append(f"{one.get_text()!r} leaves the picture")
        if one.get_fontsize() * scale < SMALLEST:
            found.append(f"{one.get_text()!r} has {one.get_fontsize() * scale:.1f} points")
    return found
