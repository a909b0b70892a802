"""What the pictures of the project share: colours, masks, and how a figure becomes a file."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import ListedColormap
from PIL import Image

from geoforest.types import FOREST, NO_OBSERVATION, OTHER, Array, Mask, Valid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

MASK_COLOURS = {OTHER: "#e4d5b7", FOREST: "#1b7837", NO_OBSERVATION: "#9a9a9a"}
MASK_NAMES = {OTHER: "other", FOREST: "forest", NO_OBSERVATION: "no observation"}
_NO_DATA_GREY = 0.6


def true_colour(rgb: Array, valid: Valid) -> NDArray[np.float64]:
    """Stretch red, green and blue for the eye.

    The 1st to 98th percentile over all three bands, with a gamma for dark forest.

    Parameters
    ----------
    rgb
        ``(3, row, col)``, in any unit.
    valid
        ``(row, col)``, True where observed; elsewhere the picture is grey.

    Returns
    -------
    numpy.ndarray
        ``(row, col, 3)``, 0 to 1.
    """
    picture = np.full((*valid.shape, 3), _NO_DATA_GREY)
    if not valid.any():
        return picture
    low, high = stretch(rgb, valid)
    return np.where(valid[..., None], stretched(rgb, low, high), picture)


def stretch(rgb: Array, valid: Valid) -> tuple[float, float]:
    """Give the values that are to be black and white: the 1st and 98th percentile of all bands.

    ``rgb`` is ``(3, row, col)``; at least one pixel has to be valid.
    """
    low, high = np.nanpercentile(rgb[:, valid].astype(np.float64), [1, 98])
    return float(low), float(high)


def stretched(rgb: Array, low: float, high: float) -> NDArray[np.float64]:
    """Stretch ``(3, row, col)`` to 0 to 1, ``(row, col, 3)``, with a gamma for dark forest."""
    values = (np.moveaxis(rgb, 0, -1).astype(np.float64) - low) / max(high - low, 1e-9)
    return np.nan_to_num(np.clip(values, 0, 1) ** (1 / 1.6))


def mask_image(
    axes: Axes, mask: Mask, *, extent: tuple[float, float, float, float] | None = None
) -> None:
    """Draw mask codes ``(row, col)`` in their colours.

    Parameters
    ----------
    axes
        To draw in.
    mask
        uint8 ``(row, col)``: 0 other, 1 forest, 255 no observation.
    extent
        ``(left, right, bottom, top)`` of the mask; by default its pixels.
    """
    codes = np.searchsorted(list(MASK_COLOURS), mask)
    colours = ListedColormap(list(MASK_COLOURS.values()))
    axes.imshow(codes, extent=extent, vmin=0, vmax=2, cmap=colours, interpolation="nearest")


def png(figure: Figure) -> bytes:
    """Give a figure as a PNG file, the same bytes for the same figure."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks is shown as boxes.
        warnings.filterwarnings("ignore", ".*[Gg]lyph.*missing")
        figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def shrunk(data: bytes, side_px: int) -> bytes:
    """Make a PNG smaller, until no side is longer than ``side_px``; a small one stays as it is."""
    with Image.open(io.BytesIO(data)) as image:
        if max(image.size) <= side_px:
            return data
        # A palette is a third of the bytes; this kind keeps colours that few pixels have.
        smaller = image.convert("RGB")
        smaller.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        smaller.quantize(256, Image.Quantize.FASTOCTREE).save(stream, format="png", optimize=True)
    return stream.getvalue()
