"""A figure of four panels: scene, probability, mask and polygons. Takes arrays only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from geoforest.report.picture import (
    MASK_COLOURS,
    MASK_NAMES,
    bar_length,
    mask_image,
    png,
    true_colour,
)
from geoforest.types import NO_OBSERVATION, PROBABILITY_STEPS, Mask, StoredProbability, Valid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_SIDE_INCHES = 12.0


def quicklook(
    reflectance: NDArray[np.floating],
    valid: Valid,
    *,
    probability: StoredProbability,
    mask: Mask,
    outlines: Sequence[NDArray[np.floating]],
    bounds: tuple[float, float, float, float],
    title: str = "",
    rgb: Sequence[int] = (0, 1, 2),
    metres: bool = True,
) -> bytes:
    """Draw scene, probability, mask and polygons of a map as four panels.

    Parameters
    ----------
    reflectance
        ``(band, row, col)``, decimated to the size of the picture.
    valid
        ``(row, col)``, True where observed.
    probability, mask
        uint8 ``(row, col)``, decimated: stored probability 0 to 250, and mask codes; 255 is no
        observation.
    outlines
        Rings of polygons, ``(n, 2)`` each, in the CRS of ``bounds``; may be empty.
    bounds
        ``(left, bottom, right, top)`` of the whole scene.
    title
        Text above the panels.
    rgb
        Indices of red, green and blue in ``reflectance``.
    metres
        Whether the unit of the CRS is the metre; only then a scale bar is drawn.

    Returns
    -------
    bytes
        A PNG file.
    """
    figure = Figure(figsize=(_SIDE_INCHES, _SIDE_INCHES), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    scene, chance, classes, edges = figure.subplots(2, 2).flat
    left, bottom, right, top = bounds
    extent = (left, right, bottom, top)
    picture = true_colour(reflectance[list(rgb)], valid)
    for axes, name in zip(
        (scene, chance, classes, edges),
        ("scene", "forest probability", "forest mask", "forest polygons"),
        strict=True,
    ):
        axes.set(title=name, xlim=(left, right), ylim=(bottom, top), aspect="equal")
        axes.set(xticks=[], yticks=[], facecolor=MASK_COLOURS[NO_OBSERVATION])
    scene.imshow(picture, extent=extent, interpolation="nearest")
    shown = np.ma.masked_equal(probability, NO_OBSERVATION) / PROBABILITY_STEPS
    ramp = chance.imshow(
        shown, extent=extent, vmin=0, vmax=1, cmap="viridis", interpolation="nearest"
    )
    figure.colorbar(ramp, ax=chance, shrink=0.6, label="probability of forest")
    mask_image(classes, mask, extent=extent)
    classes.legend(
        handles=[
            Patch(facecolor=MASK_COLOURS[code], edgecolor="black", label=name)
            for code, name in MASK_NAMES.items()
        ],
        loc="lower left",
    )
    edges.imshow(picture, extent=extent, interpolation="nearest", alpha=0.75)
    edges.add_collection(
        PolyCollection(list(outlines), facecolors="none", edgecolors="#ffd92f", linewidths=0.6)
    )
    if metres:
        draw_scale_bar(scene, bounds)
    if title:
        figure.suptitle(title, parse_math=False)
    return png(figure)


def draw_scale_bar(axes: Axes, bounds: tuple[float, float, float, float]) -> None:
    """Draw a scale bar in the lower left corner; ``(left, bottom, right, top)`` is in metres."""
    left, bottom, right, top = bounds
    width = right - left
    length = bar_length(width)
    y = bottom + 0.05 * (top - bottom)
    x = left + 0.05 * width
    label = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    axes.plot([x, x + length], [y, y], color="white", linewidth=5, solid_capstyle="butt")
    axes.plot([x, x + length], [y, y], color="black", linewidth=2.5, solid_capstyle="butt")
    axes.annotate(
        label,
        (x + length / 2, y),
        xytext=(0, 5),
        textcoords="offset points",
        ha="center",
        bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1},
    )
