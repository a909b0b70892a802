"""Decimated reads, colours, contrast stretches and PNG files shared by all pictures."""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import ListedColormap
from rasterio.enums import Resampling

from geoforest.arrays.grid import PREVIEW_PX
from geoforest.io.raster import open_raster
from geoforest.report.language import message
from geoforest.types import FOREST, NO_OBSERVATION, OTHER, Array, Mask, Valid

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from geoforest.report.language import Language

MASK_COLOURS = {OTHER: "#e4d5b7", FOREST: "#1b7837", NO_OBSERVATION: "#9a9a9a"}
MASK_NAMES = {
    OTHER: message("other"),
    FOREST: message("forest"),
    NO_OBSERVATION: message("no observation"),
}
OUTLINE = (255, 217, 47)
"""Red, green and blue of outlines over a scene."""
_NO_DATA_GREY = 0.6


def read_decimated_raster(
    path: Path,
    shape: tuple[int, ...] | None = None,
    *,
    resampling: Resampling = Resampling.nearest,
) -> Array:
    """Read the first band of a raster, decimated for a picture.

    Parameters
    ----------
    path
        Raster on disk.
    shape
        ``(rows, cols)`` of the result; by default the longer side has at most
        :data:`geoforest.arrays.grid.PREVIEW_PX` pixels.
    resampling
        How several pixels become one.

    Returns
    -------
    numpy.ndarray
        ``(row, col)``, of the raster's dtype.
    """
    with open_raster(path) as source:
        if shape is None:
            factor = max(1.0, max(source.shape) / PREVIEW_PX)
            shape = tuple(max(1, round(side / factor)) for side in source.shape)
        values: Array = source.read(1, out_shape=shape, resampling=resampling)
    return values


def true_colour(rgb: Array, valid: Valid) -> NDArray[np.float64]:
    """Stretch red, green and blue to a picture for display.

    Black is the 1st and white the 98th percentile of all three bands together; a gamma of 1.6
    brightens dark forest.

    Parameters
    ----------
    rgb
        ``(3, row, col)``, in any unit.
    valid
        ``(row, col)``, True where observed; other pixels are grey.

    Returns
    -------
    numpy.ndarray
        ``(row, col, 3)``, 0 to 1.
    """
    picture = np.full((*valid.shape, 3), _NO_DATA_GREY)
    if not valid.any():
        return picture
    low, high = stretch_limits(rgb, valid)
    return np.where(valid[..., None], stretched(rgb, low, high), picture)


def stretch_limits(rgb: Array, valid: Valid) -> tuple[float, float]:
    """Compute the values shown black and white: the 1st and 98th percentile of all bands.

    ``rgb`` is ``(3, row, col)``; at least one pixel must be valid.
    """
    low, high = np.nanpercentile(rgb[:, valid].astype(np.float64), [1, 98])
    return float(low), float(high)


def stretched(rgb: Array, low: float, high: float) -> NDArray[np.float64]:
    """Map ``low`` to ``high`` of ``(3, row, col)`` to 0 to 1, ``(row, col, 3)``, with gamma 1.6."""
    values = (np.moveaxis(rgb, 0, -1).astype(np.float64) - low) / max(high - low, 1e-9)
    return np.nan_to_num(np.clip(values, 0, 1) ** (1 / 1.6))


def mask_image(
    axes: Axes, mask: Mask, *, extent: tuple[float, float, float, float] | None = None
) -> None:
    """Draw mask codes ``(row, col)`` in their colours.

    Parameters
    ----------
    axes
        Axes to draw in.
    mask
        uint8 ``(row, col)``: 0 other, 1 forest, 255 no observation.
    extent
        ``(left, right, bottom, top)`` of the mask in data coordinates; by default its pixels.
    """
    codes = np.searchsorted(list(MASK_COLOURS), mask)
    colours = ListedColormap(list(MASK_COLOURS.values()))
    axes.imshow(codes, extent=extent, vmin=0, vmax=2, cmap=colours, interpolation="nearest")


def bar_length(width: float) -> float:
    """Return a round length for the scale bar of a picture: 1, 2 or 5 times a power of ten.

    It is a tenth to a quarter of ``width``, in the same unit.

    Examples
    --------
    >>> bar_length(23040)
    5000.0
    """
    wanted = width / 4
    power = 10.0 ** math.floor(math.log10(wanted))
    return max(step * power for step in (1, 2, 5) if step * power <= wanted)


@dataclass(frozen=True)
class ScaleBar:
    """Scale bar of a picture: its length as text, and in percent of the picture's width."""

    text: str
    percent: float


def scale_bar(width_m: float, language: Language) -> ScaleBar:
    """Return the scale bar of a picture that is ``width_m`` metres wide."""
    length = bar_length(width_m)
    kilometres = length >= 1000
    shown = language.significant(length / 1000 if kilometres else length)
    return ScaleBar(f"{shown} km" if kilometres else f"{shown} m", 100 * length / width_m)


def outline_mask(mask: Mask) -> NDArray[np.bool_]:
    """Return the pixels ``(row, col)`` whose upper or left neighbour is of the other class."""
    forest = mask == FOREST
    edge = np.zeros(mask.shape, np.bool_)
    edge[1:] |= forest[1:] != forest[:-1]
    edge[:, 1:] |= forest[:, 1:] != forest[:, :-1]
    return edge


def png(figure: Figure) -> bytes:
    """Encode a figure as PNG, with the same bytes for the same figure."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # Characters that the font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", ".*[Gg]lyph.*missing")
        figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
