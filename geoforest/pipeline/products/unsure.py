"""The places where a model is least certain of its classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geoforest.arrays.grid import Window
from geoforest.types import NO_OBSERVATION, PROBABILITY_STEPS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoforest.types import Shape, StoredProbability

# Pixels this close to the threshold change class easily.
UNSURE = 0.1
_CELL_PX = 64
_SIDE_PX = 192
_SHOWN = 3


def is_unsure(stored: StoredProbability, threshold: float) -> NDArray[np.bool_]:
    """Return which pixels are observed and within 0.1 of the threshold, of that shape."""
    table = np.abs(np.arange(256) / PROBABILITY_STEPS - threshold) <= UNSURE + 1e-9
    table[NO_OBSERVATION] = False
    return table[stored]


class UnsureCells:
    """Number of unsure pixels in each cell of 64 px, counted while a map is written.

    Parameters
    ----------
    shape
        ``(rows, cols)`` of the scene.
    threshold
        Threshold of the mask, 0 to 1.
    """

    def __init__(self, shape: Shape, threshold: float) -> None:
        self._shape, self._threshold = shape, threshold
        rows, cols = (-(-side // _CELL_PX) for side in shape)
        self._counts = np.zeros((rows, cols), np.int64)

    def add(self, window: Window, stored: StoredProbability) -> None:
        """Count a block of stored probability."""
        rows, cols = np.nonzero(is_unsure(stored, self._threshold))
        cells = (rows + window.row_off) // _CELL_PX, (cols + window.col_off) // _CELL_PX
        np.add.at(self._counts, cells, 1)

    def places(self) -> list[Window]:
        """Return up to three squares around the cells with most unsure pixels; none overlap."""
        counts = self._counts.copy()
        found: list[Window] = []
        while len(found) < _SHOWN and counts.any():
            row, col = divmod(int(counts.argmax()), counts.shape[1])
            square = self._square(row, col)
            if not any(_overlap(square, other) for other in found):
                found.append(square)
            counts[row, col] = 0
        return found

    def _square(self, row: int, col: int) -> Window:
        starts, sides = [], []
        for cell, side in zip((row, col), self._shape, strict=True):
            start = cell * _CELL_PX - (_SIDE_PX - _CELL_PX) // 2
            starts.append(max(0, min(start, side - _SIDE_PX)))
            sides.append(min(_SIDE_PX, side))
        return Window(*starts, *sides)


def _overlap(one: Window, other: Window) -> bool:
    return (
        abs(one.row_off - other.row_off) < one.height
        and abs(one.col_off - other.col_off) < one.width
    )
