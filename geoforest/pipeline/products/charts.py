"""Charts on the page of a map: probability of its pixels, size of its patches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from geoforest.report.language import ENGLISH, message
from geoforest.report.picture import MASK_COLOURS, png
from geoforest.types import FOREST, OTHER, PROBABILITY_STEPS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from geoforest.report.language import Language

_BAR_STEPS = 10
_UNITS = {"patches": message("patches"), "hectares": message("hectares")}
_EDGE = "#4a5a4e"


def probability_chart(
    histogram: Sequence[int], threshold: float, language: Language = ENGLISH
) -> bytes:
    """Draw the histogram of probability, and the threshold.

    Parameters
    ----------
    histogram
        Number of pixels per stored value, 256 entries; 255 is left out.
    threshold
        Threshold of the mask, 0 to 1.
    language
        Language of the labels.

    Returns
    -------
    bytes
        A PNG file.
    """
    figure, axes = _panel()
    counts = np.asarray(histogram[: PROBABILITY_STEPS + 1], np.float64)
    starts = np.arange(0, PROBABILITY_STEPS, _BAR_STEPS)
    # The last bar includes the value 1.
    bars = np.add.reduceat(counts, starts)
    shares = 100 * bars / max(counts.sum(), 1)
    width = _BAR_STEPS / PROBABILITY_STEPS
    left = starts / PROBABILITY_STEPS
    # Half a step of tolerance, since thresholds are decimal numbers.
    forest = left + width / 2 >= threshold
    colours = [MASK_COLOURS[FOREST] if one else MASK_COLOURS[OTHER] for one in forest]
    axes.bar(left, shares, width, align="edge", color=colours, edgecolor=_EDGE, linewidth=0.6)
    axes.axvline(
        threshold,
        color="black",
        linestyle="--",
        label=language(message("threshold {value}"), value=language.significant(threshold)),
    )
    axes.set(
        xlim=(0, 1),
        xlabel=language(message("probability of forest")),
        ylabel=language(message("% of observed pixels")),
    )
    if shares.any():
        # Most pixels are certain: on a linear axis the others would be invisible.
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    axes.legend(loc="upper center")
    return png(figure)


def patch_chart(
    sizes: Sequence[dict[str, Any]], column: str, language: Language = ENGLISH
) -> bytes:
    """Draw the number or the hectares of patches by size.

    Parameters
    ----------
    sizes
        See :meth:`geoforest.pipeline.products.patch_sizes.PatchSizes.table`.
    column
        Column of the table: ``patches`` or ``hectares``.
    language
        Language of the labels.

    Returns
    -------
    bytes
        A PNG file.
    """
    figure, axes = _panel()
    places = np.arange(len(sizes))
    values = [row[column] for row in sizes]
    axes.bar(places, values, 0.9, color=MASK_COLOURS[FOREST], edgecolor=_EDGE, linewidth=0.6)
    axes.set(
        ylabel=language(_UNITS[column]), xlabel=language(message("size of the patch from, ha"))
    )
    axes.set_xticks(places, [language.significant(row["from_ha"]) for row in sizes], rotation=45)
    axes.yaxis.set_major_locator(MaxNLocator(integer=column == "patches"))
    axes.yaxis.set_major_formatter("{x:,g}")
    return png(figure)


def _panel() -> tuple[Figure, Axes]:
    # Letters stay readable on the screen of a telephone.
    figure = Figure(figsize=(5.6, 3.4), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
