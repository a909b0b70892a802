"""Codes of a cloud mask, and the buffer around clouds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from scipy.ndimage import distance_transform_edt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from geoforest.types import Shape, Valid

CLEAR: Final = 0
"""The ground was seen."""

UNKNOWN: Final = 1
"""The source has no data here; masked, without a buffer."""

CLOUD: Final = 2
"""Cloud, cloud shadow, or snow if the user masks it; masked, with a buffer."""

# UTM shortens lengths by up to 0.04 %: ten pixels of 10 m must still count as within 100 m.
_SLACK: Final = 1.0005


def buffer_px(buffer_m: float, pixel_m: tuple[float, float]) -> Shape:
    """Return the rows and columns that a buffer reaches at most.

    Examples
    --------
    >>> buffer_px(100, (10.004, 10.004)), buffer_px(0, (10, 10)), buffer_px(15, (10, 20))
    ((10, 10), (0, 0), (1, 0))
    """
    rows, cols = (math.floor(buffer_m * _SLACK / side) for side in pixel_m)
    return rows, cols


def within(cloud: Valid, buffer_m: float, pixel_m: tuple[float, float]) -> Valid:
    """Find pixels whose centre lies within a distance of the centre of a cloudy pixel.

    Parameters
    ----------
    cloud
        ``(row, col)``, True where cloudy.
    buffer_m
        Euclidean distance on the ground, metres; 0 adds no pixels.
    pixel_m
        Height and width of a pixel on the ground, metres.

    Returns
    -------
    numpy.ndarray
        bool, same shape as ``cloud``.

    Examples
    --------
    >>> import numpy as np
    >>> within(np.eye(1, 5, dtype=bool), 20, (10, 10)).tolist()
    [[True, True, True, False, False]]
    """
    # The distance transform is slow, and most windows have no edge of a cloud.
    if cloud.all() or not cloud.any() or buffer_px(buffer_m, pixel_m) == (0, 0):
        return cloud
    distance: NDArray[np.float64] = distance_transform_edt(~cloud, sampling=pixel_m)
    near: Valid = distance <= buffer_m * _SLACK
    return near
