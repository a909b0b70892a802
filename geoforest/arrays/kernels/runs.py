"""Runs of equal pixels, and their connected components."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geoforest.arrays.kernels.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray


@compiled
def encode_runs(
    mask: NDArray[np.uint8], stored: NDArray[np.uint8], starts_cell: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.uint8], NDArray[np.int64]]:
    """Cut every row in runs of one code; a new cell of the product grid begins a new run too.

    Parameters
    ----------
    mask
        ``(row, col)`` of mask codes.
    stored
        Stored probability of the same shape, or ``(0, 0)`` for none.
    starts_cell
        ``(col,)``: whether a cell of the product grid begins there.

    Returns
    -------
    row_ends
        ``(rows + 1,)``: first run of each row, and the number of runs.
    start, code, total
        ``(n_runs,)``: first column, mask code, and sum of the stored probability.
    """
    n_rows, n_cols = mask.shape
    row_ends = np.zeros(n_rows + 1, np.int64)
    for row in range(n_rows):
        n_runs = 1
        for col in range(1, n_cols):
            n_runs += (mask[row, col] != mask[row, col - 1]) | starts_cell[col]
        row_ends[row + 1] = row_ends[row] + n_runs
    start = np.empty(row_ends[-1], np.int32)
    code = np.empty(row_ends[-1], np.uint8)
    total = np.zeros(row_ends[-1], np.int64)
    for row in range(n_rows):
        run = row_ends[row] - 1
        for col in range(n_cols):
            if col == 0 or mask[row, col] != mask[row, col - 1] or starts_cell[col]:
                run += 1
                start[run] = col
                code[run] = mask[row, col]
    if stored.size:
        for row in range(n_rows):
            for run in range(row_ends[row], row_ends[row + 1]):
                last = row_ends[row + 1] - 1
                end = n_cols if run == last else start[run + 1]
                sum_of_run = np.int64(0)
                for col in range(start[run], end):
                    sum_of_run += np.int64(stored[row, col])
                total[run] = sum_of_run
    return row_ends, start, code, total


@compiled
def _root(parent: NDArray[np.int32], run: int) -> int:
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = parent[run]
    return run


@compiled
def _join(parent: NDArray[np.int32], one: int, other: int) -> None:
    # The earlier run is the root, so that components are numbered by their first pixels.
    one, other = _root(parent, one), _root(parent, other)
    if one < other:
        parent[other] = one
    else:
        parent[one] = other


@compiled
def label_runs(
    row_ends: NDArray[np.int64],
    start: NDArray[np.int32],
    end: NDArray[np.int32],
    key: NDArray[np.int64],
    corners_touch: bool,
) -> tuple[NDArray[np.int32], int]:
    """Find connected components of runs of one key.

    Parameters
    ----------
    row_ends, start, end
        Runs that cover each row, by their first column and the one after their last.
    key
        Only runs of the same key are joined; runs with a key below 0 have no component.
    corners_touch
        Whether two runs that touch only at a corner are joined (8-connectivity).

    Returns
    -------
    component
        ``(n_runs,)``, numbered from 0 by first pixel; -1 where the key is below 0.
    n_components
        Their number.
    """
    parent = np.arange(len(start)).astype(np.int32)
    reach = 1 if corners_touch else 0
    for row in range(len(row_ends) - 1):
        above, above_end = row_ends[max(row - 1, 0)], row_ends[row]
        for run in range(row_ends[row], row_ends[row + 1]):
            if key[run] < 0:
                continue
            if run > row_ends[row] and key[run - 1] == key[run]:
                _join(parent, run - 1, run)
            while above < above_end and end[above] + reach <= start[run]:
                above += 1
            other = above
            while other < above_end and start[other] < end[run] + reach:
                if key[other] == key[run]:
                    _join(parent, other, run)
                other += 1
    component = np.full(len(start), -1, np.int32)
    n_components = 0
    for run in range(len(start)):
        if key[run] < 0:
            continue
        root = _root(parent, run)
        if root == run:
            component[run] = n_components
            n_components += 1
        else:
            component[run] = component[root]
    return component, n_components


@compiled
def neighbours_of(
    row_ends: NDArray[np.int64],
    start: NDArray[np.int32],
    end: NDArray[np.int32],
    component: NDArray[np.int32],
    n_components: int,
    patch: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the lowest and highest patch along the edges of each component.

    Each run has either a ``patch`` or a ``component``; the other one is below 0. Where a component
    touches no patch, the lowest is the largest int64 and the highest is -1.
    """
    lowest = np.full(n_components, np.iinfo(np.int64).max)
    highest = np.full(n_components, -1, np.int64)
    for row in range(len(row_ends) - 1):
        above, above_end = row_ends[max(row - 1, 0)], row_ends[row]
        for run in range(row_ends[row], row_ends[row + 1]):
            if run > row_ends[row]:
                _record_neighbour(run - 1, run, component, patch, lowest, highest)
            while above < above_end and end[above] <= start[run]:
                above += 1
            other = above
            while other < above_end and start[other] < end[run]:
                _record_neighbour(other, run, component, patch, lowest, highest)
                other += 1
    return lowest, highest


@compiled
def _record_neighbour(
    one: int,
    other: int,
    component: NDArray[np.int32],
    patch: NDArray[np.int64],
    lowest: NDArray[np.int64],
    highest: NDArray[np.int64],
) -> None:
    if (component[one] < 0) == (component[other] < 0):
        return
    if component[one] < 0:
        one, other = other, one
    here, there = component[one], patch[other]
    lowest[here] = min(lowest[here], there)
    highest[here] = max(highest[here], there)


@compiled
def sum_runs(
    values: NDArray[np.int64], component: NDArray[np.int32], n_components: int
) -> NDArray[np.int64]:
    """Sum a value of runs over each component."""
    sums = np.zeros(n_components, np.int64)
    for run in range(len(values)):
        if component[run] >= 0:
            sums[component[run]] += values[run]
    return sums
