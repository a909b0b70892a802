"""Clouds' buffers, counted pixel by pixel."""

from __future__ import annotations

import numpy as np

from geoforest.arrays.clouds import CLOUD


def brute_force(codes: np.ndarray, buffer_m: float, pixel_m: tuple[float, float]) -> np.ndarray:
    masked = codes != 0
    rows, cols = np.indices(codes.shape)
    for row, col in np.argwhere(codes == CLOUD):
        distance = np.hypot((rows - row) * pixel_m[0], (cols - col) * pixel_m[1])
        masked |= distance <= buffer_m * 1.0005
    return masked
