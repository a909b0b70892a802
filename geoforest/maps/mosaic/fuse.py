"""Fuse several observations of a pixel into one. Arrays only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geoforest.types import NO_OBSERVATION, Shape, StoredProbability

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from geoforest.maps.mosaic.rule import MosaicRule

_MOST = 255


def fuse(
    observations: Iterable[tuple[slice, slice, StoredProbability]], shape: Shape, rule: MosaicRule
) -> tuple[StoredProbability, NDArray[np.uint8]]:
    """Fuse the stored probability of maps that overlap.

    Parameters
    ----------
    observations
        Rows and columns of the result, and the stored probability of a map there. For ``latest``
        and ``clearest`` the best map comes first.
    shape
        ``(rows, cols)`` of the result.
    rule
        ``mean`` is the mean over maps that observed the pixel, rounded half up; the other two use
        the first map that observed it.

    Returns
    -------
    stored
        uint8, 255 where no map observed.
    count
        uint8: number of maps that observed each pixel, at most 255.

    Examples
    --------
    >>> one, other = np.array([[10, 255]], np.uint8), np.array([[13, 255]], np.uint8)
    >>> both = [(slice(0, 1), slice(0, 2), one), (slice(0, 1), slice(0, 2), other)]
    >>> [array.tolist() for array in fuse(both, (1, 2), "mean")]
    [[[12, 255]], [[2, 0]]]
    """
    total = np.zeros(shape, np.uint32)
    count = np.zeros(shape, np.uint32)
    for rows, cols, stored in observations:
        seen = stored != NO_OBSERVATION
        if rule == "mean":
            total[rows, cols] += np.where(seen, stored, 0)
        else:
            first = seen & (count[rows, cols] == 0)
            total[rows, cols][first] = stored[first]
        count[rows, cols] += seen
    divisor = np.maximum(count, 1) if rule == "mean" else np.uint32(1)
    fused = np.where(count > 0, (2 * total + divisor) // (2 * divisor), NO_OBSERVATION)
    return fused.astype(np.uint8), np.minimum(count, _MOST).astype(np.uint8)
