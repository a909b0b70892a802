"""True ground area and length along rows and columns, as integers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geoforest.arrays.kernels.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray


@compiled
def _integral(
    values: NDArray[np.float64],
    before: NDArray[np.float64],
    line: float,
    at: float,
    line_px: float,
    at_px: float,
    unit: float,
) -> np.int64:
    """Integrate a bilinear table along a line, from 0 to a position, in whole units.

    Parameters
    ----------
    values
        ``(line node, node along the line)``.
    before
        Same shape: integral up to each node, in steps of nodes.
    line, at
        Position in pixels: of the line, and along it.
    line_px, at_px
        Distance of nodes, in pixels.
    unit
        Unit of the result.
    """
    row = min(int(line / line_px), values.shape[0] - 2)
    col = min(int(at / at_px), values.shape[1] - 2)
    down, right = line / line_px - row, at / at_px - col
    total = 0.0
    for node, share in ((row, 1 - down), (row + 1, down)):
        here, there = values[node, col], values[node, col + 1]
        total += share * (before[node, col] + here * right + (there - here) * right * right / 2)
    return np.int64(np.floor(total * at_px / unit + 0.5))


@compiled
def run_areas(
    row_ends: NDArray[np.int64],
    start: NDArray[np.int32],
    end: NDArray[np.int32],
    first_row: int,
    area: NDArray[np.float64],
    before: NDArray[np.float64],
    row_px: float,
    col_px: float,
    unit: float,
) -> NDArray[np.int64]:
    """Compute the ground area of each run; integers make sums independent of their order."""
    areas = np.empty(len(start), np.int64)
    for row in range(len(row_ends) - 1):
        line = first_row + row + 0.5
        for run in range(row_ends[row], row_ends[row + 1]):
            to_end = _integral(area, before, line, end[run], row_px, col_px, unit)
            areas[run] = to_end - _integral(area, before, line, start[run], row_px, col_px, unit)
    return areas


@compiled
def polygon_lengths(
    points: NDArray[np.int32],
    ring_ends: NDArray[np.int64],
    polygon_ends: NDArray[np.int64],
    width: NDArray[np.float64],
    width_before: NDArray[np.float64],
    height: NDArray[np.float64],
    height_before: NDArray[np.float64],
    row_px: float,
    col_px: float,
    unit: float,
) -> NDArray[np.int64]:
    """Compute the ground length of all rings of each polygon, in whole units.

    ``points`` are (col, row); every edge runs along a row or a column. The first axis of the
    tables of width is that of rows, of the tables of height that of columns.
    """
    lengths = np.zeros(len(polygon_ends) - 1, np.int64)
    for polygon in range(len(lengths)):
        for ring in range(polygon_ends[polygon], polygon_ends[polygon + 1]):
            for point in range(ring_ends[ring], ring_ends[ring + 1] - 1):
                x, y = points[point]
                next_x, next_y = points[point + 1]
                if y == next_y:
                    here = _integral(width, width_before, y, x, row_px, col_px, unit)
                    there = _integral(width, width_before, y, next_x, row_px, col_px, unit)
                else:
                    here = _integral(height, height_before, x, y, col_px, row_px, unit)
                    there = _integral(height, height_before, x, next_y, col_px, row_px, unit)
                lengths[polygon] += abs(there - here)
    return lengths
