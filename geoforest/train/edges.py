"""Distance of pixels to the edge of forest, where most errors lie. Arrays only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.ndimage import distance_transform_edt

from geoforest.types import FOREST, OTHER, Mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

RANGES_PX: Final = ((0, 1), (1, 2), (2, 3), (3, 5), (5, 10), (10, np.inf))
"""Ranges of distance, px, lower end excluded: the first holds pixels that touch an edge."""


def distance_to_edge(truth: Mask) -> NDArray[np.float64]:
    """Compute the distance of each labelled pixel to the nearest one of the other class, px.

    Parameters
    ----------
    truth
        uint8 ``(row, col)``: 0 other, 1 forest, 255 unknown.

    Returns
    -------
    numpy.ndarray
        Distance between pixel centres, ``(row, col)``; infinite where there is no pixel of the
        other class, NaN where truth is unknown.

    Examples
    --------
    >>> distance_to_edge(np.array([[1, 1, 0, 255, 0]], np.uint8)).tolist()
    [[2.0, 1.0, 1.0, nan, 3.0]]
    """
    distance = np.full(truth.shape, np.nan)
    for code, opposite in ((FOREST, OTHER), (OTHER, FOREST)):
        here, there = truth == code, truth == opposite
        distance[here] = distance_transform_edt(~there)[here] if there.any() else np.inf
    return distance


def in_range(distance: NDArray[np.float64], low: float, high: float) -> NDArray[np.bool_]:
    """Return where ``low < distance <= high``, bool."""
    return (distance > low) & (distance <= high)
