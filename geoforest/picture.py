"""Colours that every picture of the project shares. Arrays only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoforest.types import FOREST, NO_OBSERVATION, OTHER, Array, Valid

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
    values = np.moveaxis(rgb, 0, -1)[valid].astype(np.float64)
    low, high = np.nanpercentile(values, [1, 98])
    stretched = np.clip((values - low) / max(high - low, 1e-9), 0, 1) ** (1 / 1.6)
    picture[valid] = np.nan_to_num(stretched)
    return picture
