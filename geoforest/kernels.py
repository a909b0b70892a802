"""Loops over pixels that NumPy has no fast words for, compiled by numba at their first call.

Import this module where it is used: loading the compiler takes half a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from geoforest.types import NO_OBSERVATION

F = TypeVar("F", bound=Callable[..., Any])


def _compiled(function: F) -> F:
    try:
        kernel = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder to keep the machine code in
        kernel = numba.njit(nogil=True)(function)
    return cast(F, kernel)


@_compiled
def count_pixels(labels: NDArray[np.integer], n_labels: int) -> NDArray[np.int64]:
    """Pixels of each label below ``n_labels``."""
    pixels = np.zeros(n_labels, np.int64)
    for row in range(labels.shape[0]):
        for col in range(labels.shape[1]):
            pixels[labels[row, col]] += 1
    return pixels


@_compiled
def relabel(labels: NDArray[np.int32], new: NDArray[np.int32]) -> None:
    """Replace each label by ``new[label]``, in place."""
    for row in range(labels.shape[0]):
        for col in range(labels.shape[1]):
            labels[row, col] = new[labels[row, col]]


@_compiled
def sum_by_label(
    labels: NDArray[np.integer],
    n_labels: int,
    lines: NDArray[np.float64],
    col_node: NDArray[np.intp],
    col_share: NDArray[np.float64],
    stored: NDArray[np.uint8],
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Pixels, ground area, sum of stored values and first pixel of each label.

    Parameters
    ----------
    labels
        ``(row, col)``, below ``n_labels``.
    lines
        ``(row, node)``: ground area of a pixel at each node of each row.
    col_node, col_share
        ``(col,)``: node before each column, and how far it is on the way to the next.
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
        # By runs of one label: few additions to the tables, and small errors of rounding.
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


@_compiled
def trace_rings(
    labels: NDArray[np.int32], lowest: int
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Walk around every label from ``lowest`` on, along pixel edges, the label to the right.

    Where two pixels of one label touch at a corner only, the walk crosses over to the other one:
    what they enclose gets a ring of its own, and no ring touches itself.

    Returns
    -------
    points
        ``(n, 2)``, (col, row) of corners; the last of a ring is its first.
    ring_ends
        ``(n_rings + 1,)``.
    owner, is_hole
        ``(n_rings,)``: label of each ring, and whether it goes around what the label lacks.
    """
    n_rows, n_cols = labels.shape
    # Upper edges of pixels that are in a ring already. Every ring has one, and its first in row
    # order begins at a corner.
    seen = np.zeros((n_rows, n_cols), np.bool_)
    points = np.empty((1024, 2), np.int32)
    ring_ends = np.zeros(257, np.int64)
    owner = np.empty(256, np.int64)
    is_hole = np.empty(256, np.bool_)
    n_points = n_rings = 0
    for row in range(n_rows):
        above = labels[max(row - 1, 0)]
        for col in range(n_cols):
            label = labels[row, col]
            if label < lowest or (row > 0 and above[col] == label) or seen[row, col]:
                continue
            points, n_points, is_hole[n_rings] = _walk(labels, seen, row, col, points, n_points)
            owner[n_rings] = label
            n_rings += 1
            ring_ends[n_rings] = n_points
            if n_rings == len(owner):
                ring_ends = np.concatenate((ring_ends, np.zeros(n_rings, np.int64)))
                owner = np.concatenate((owner, owner))
                is_hole = np.concatenate((is_hole, is_hole))
    return points[:n_points], ring_ends[: n_rings + 1], owner[:n_rings], is_hole[:n_rings]


@_compiled
def _walk(
    labels: NDArray[np.int32],
    seen: NDArray[np.bool_],
    row: int,
    col: int,
    points: NDArray[np.int32],
    n_points: int,
) -> tuple[NDArray[np.int32], int, bool]:
    """Walk one ring from the upper left corner of a pixel, eastwards.

    Returns
    -------
    points, n_points
        With the corners added; a larger array where the old one was full.
    is_hole
        Whether it went around counter-clockwise, as seen with rows growing downwards.
    """
    n_rows, n_cols = labels.shape
    label = labels[row, col]
    start = n_points
    y, x = row, col
    heading = 0  # 0 east, 1 south, 2 west, 3 north
    twice_area = 0
    while True:
        if n_points + 1 >= len(points):
            more = np.empty((2 * len(points), 2), np.int32)
            more[:n_points] = points[:n_points]
            points = more
        points[n_points, 0] = x
        points[n_points, 1] = y
        n_points += 1
        from_y, from_x = y, x
        turn = 0
        while turn == 0:
            # The pixels to the left and to the right of the way ahead.
            if heading == 0:
                seen[y, x] = True
                x += 1
                left_y, left_x, right_y, right_x = y - 1, x, y, x
            elif heading == 1:
                y += 1
                left_y, left_x, right_y, right_x = y, x, y, x - 1
            elif heading == 2:
                x -= 1
                left_y, left_x, right_y, right_x = y, x - 1, y - 1, x - 1
            else:
                y -= 1
                left_y, left_x, right_y, right_x = y - 1, x - 1, y - 1, x
            if 0 <= left_y < n_rows and 0 <= left_x < n_cols and labels[left_y, left_x] == label:
                turn = 3
            elif not (
                0 <= right_y < n_rows
                and 0 <= right_x < n_cols
                and labels[right_y, right_x] == label
            ):
                turn = 1
        heading = (heading + turn) % 4
        twice_area += from_x * y - x * from_y
        if y == row and x == col and heading == 0:
            break
    points[n_points] = points[start]
    return points, n_points + 1, twice_area < 0


@_compiled
def fill_rings(
    labels: NDArray[np.int32],
    mask: NDArray[np.uint8],
    points: NDArray[np.float64],
    ring_ends: NDArray[np.int64],
    chosen: NDArray[np.int64],
    owner: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Give all pixels inside rings to a label, in place, where none of them is unobserved.

    Parameters
    ----------
    labels, mask
        ``(row, col)``.
    points, ring_ends
        As of :class:`geoforest.tracing.Rings`.
    chosen
        The rings, by number.
    owner
        Label of every ring.

    Returns
    -------
    numpy.ndarray
        bool, whether each of the chosen was filled.
    """
    filled = np.ones(len(chosen), np.bool_)
    for number in range(len(chosen)):
        ring = chosen[number]
        begin, end = ring_ends[ring], ring_ends[ring + 1]
        left = right = np.int64(points[begin, 0])
        top = bottom = np.int64(points[begin, 1])
        for point in range(begin, end):
            x, y = np.int64(points[point, 0]), np.int64(points[point, 1])
            left, right = min(left, x), max(right, x)
            top, bottom = min(top, y), max(bottom, y)
        # Upright edges change between outside and inside, from left to right.
        inside = np.zeros((bottom - top, right - left + 1), np.bool_)
        for point in range(begin, end - 1):
            x, y = np.int64(points[point, 0]), np.int64(points[point, 1])
            other_y = np.int64(points[point + 1, 1])
            for row in range(min(y, other_y), max(y, other_y)):
                inside[row - top, x - left] ^= True
        for row in range(top, bottom):
            for col in range(left, right):
                if col > left:
                    inside[row - top, col - left] ^= inside[row - top, col - left - 1]
                if inside[row - top, col - left] and mask[row, col] == NO_OBSERVATION:
                    filled[number] = False
        if filled[number]:
            for row in range(top, bottom):
                for col in range(left, right):
                    if inside[row - top, col - left]:
                        labels[row, col] = owner[ring]
    return filled
