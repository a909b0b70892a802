"""Sums over labelled pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geoforest.arrays.kernels.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray


@compiled
def count_pixels(labels: NDArray[np.integer], n_labels: int) -> NDArray[np.int64]:
    """Count the pixels of each label; labels are below ``n_labels``."""
    pixels = np.zeros(n_labels, np.int64)
    for row in range(labels.shape[0]):
        for col in range(labels.shape[1]):
            pixels[labels[row, col]] += 1
    return pixels


@compiled
def sum_by_label(
    labels: NDArray[np.integer],
    n_labels: int,
    lines: NDArray[np.float64],
    col_node: NDArray[np.intp],
    col_share: NDArray[np.float64],
    stored: NDArray[np.uint8],
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Compute pixels, ground area, sum of stored values and first pixel of each label.

    Parameters
    ----------
    labels
        ``(row, col)``, below ``n_labels``.
    lines
        ``(row, node)``: ground area of a pixel at each node of each row.
    col_node, col_share
        ``(col,)``: node before each column, and share of the way to the next node.
    stored
        ``(row, col)``, or ``(0, 0)`` for none.

    Returns
    -------
    pixels, area, total, first
        ``(n_labels,)``; ``first`` is ``row * cols + col``, -1 where a label is absent.
    """
    n_rows, n_cols = labels.shape
    pixels = np.zeros(n_labels, np.int64)
    area = np.zeros(n_labels)
    total = np.zeros(n_labels)
    first = np.full(n_labels, -1, np.int64)
    ground = np.empty(n_cols)
    for row in range(n_rows):
        for col in range(n_cols):
            node, share = col_node[col], col_share[col]
            ground[col] = lines[row, node] * (1 - share) + lines[row, node + 1] * share
        start = 0
        # Runs of one label are summed first: fewer additions to the tables, less rounding.
        while start < n_cols:
            label = labels[row, start]
            end = start
            run_area = 0.0
            while end < n_cols and labels[row, end] == label:
                run_area += ground[end]
                end += 1
            pixels[label] += end - start
            area[label] += run_area
            if first[label] < 0:
                first[label] = row * n_cols + start
            if stored.size:
                run_total = 0
                for col in range(start, end):
                    run_total += stored[row, col]
                total[label] += run_total
            start = end
    return pixels, area, total, first


@compiled
def add_to_cells(
    mask: NDArray[np.uint8],
    weights: NDArray[np.float64],
    row: NDArray[np.float64],
    col: NDArray[np.float64],
    step: int,
    sums: NDArray[np.float32],
) -> None:
    """Add pixels to the cells that hold their centres.

    Parameters
    ----------
    mask
        ``(rows, cols)``: 1 forest, 255 no observation.
    weights
        Weight of each pixel; an empty array for 1.
    row, col
        ``(node rows, node cols)``: position, in cells, of the centre of every ``step``-th pixel;
        interpolated in between.
    step
        Pixels from node to node.
    sums
        ``(2, cell rows, cell cols)``, changed in place: forest, observed.
    """
    for y in range(mask.shape[0]):
        node_y, down = y // step, (y % step) / step
        for x in range(mask.shape[1]):
            code = mask[y, x]
            if code == 255:
                continue
            node_x, right = x // step, (x % step) / step
            upper = row[node_y, node_x] * (1 - right) + row[node_y, node_x + 1] * right
            lower = row[node_y + 1, node_x] * (1 - right) + row[node_y + 1, node_x + 1] * right
            cell_row = int(np.floor(upper * (1 - down) + lower * down))
            upper = col[node_y, node_x] * (1 - right) + col[node_y, node_x + 1] * right
            lower = col[node_y + 1, node_x] * (1 - right) + col[node_y + 1, node_x + 1] * right
            cell_col = int(np.floor(upper * (1 - down) + lower * down))
            weight = weights[y, x] if weights.size else 1.0
            sums[1, cell_row, cell_col] += weight
            if code == 1:
                sums[0, cell_row, cell_col] += weight


@compiled
def add_row_sums(
    values: NDArray[np.uint8], weights: NDArray[np.uint64], sums: NDArray[np.uint64]
) -> None:
    """Add the weighted sum of each row of ``values`` to ``sums``, modulo 2**64."""
    for row in range(values.shape[0]):
        total = np.uint64(0)
        for col in range(values.shape[1]):
            total += weights[col] * np.uint64(values[row, col])
        sums[row] += total


@compiled
def count_strays(
    fine: NDArray[np.uint8],
    coarse: NDArray[np.uint8],
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    nodata: int,
) -> int:
    """Count pixels of an overview that cannot be of the pixels below them.

    A pixel is nodata where all pixels below it are, and elsewhere between the smallest and the
    largest of the others.

    Parameters
    ----------
    fine, coarse
        Pixels, and those of the overview.
    rows, cols
        ``(2, n)``: first row and row behind the last one of ``fine`` below each row of ``coarse``,
        and columns alike.
    nodata
        Value of pixels that do not count.
    """
    strays = 0
    for row in range(coarse.shape[0]):
        for col in range(coarse.shape[1]):
            low, high = 256, -1
            for y in range(rows[0, row], rows[1, row]):
                for x in range(cols[0, col], cols[1, col]):
                    value = fine[y, x]
                    if value != nodata:
                        low, high = min(low, value), max(high, value)
            value = coarse[row, col]
            if high < 0:
                strays += value != nodata
            else:
                strays += value == nodata or value < low or value > high
    return strays
