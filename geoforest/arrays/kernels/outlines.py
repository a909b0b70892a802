"""Corners of outlines, and the rings they form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geoforest.arrays.kernels.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray


@compiled
def count_corners(
    row_ends: NDArray[np.int64],
    start: NDArray[np.int32],
    label: NDArray[np.int32],
    n_cols: int,
    lines: tuple[int, int, int],
    n_labels: int,
) -> NDArray[np.int64]:
    """Count the corners of the outlines of each label; see :func:`trace_corners`.

    No two labels share an edge. The loop along a line is repeated in both functions: shared, as a
    generator, it made this one three times slower.
    """
    counts = np.zeros(n_labels, np.int64)
    n_rows = len(row_ends) - 1
    for line in range(lines[0], lines[1]):
        above, above_end = row_ends[max(line - 1, 0)], row_ends[line]
        below, below_end = row_ends[line], row_ends[min(line + 1, n_rows)]
        above_left = above_end - above + 1 if above_end > above else 0
        below_left = below_end - below + 1 if below_end > below else 0
        a = b = c = d = np.int32(-1)
        while above_left or below_left:
            above_x = start[above] if above_left > 1 else n_cols
            below_x = start[below] if below_left > 1 else n_cols
            x = min(above_x, below_x)
            a, c = b, d
            if above_left and above_x == x:
                b = label[above] if above_left > 1 else np.int32(-1)
                above, above_left = above + 1, above_left - 1
            if below_left and below_x == x:
                d = label[below] if below_left > 1 else np.int32(-1)
                below, below_left = below + 1, below_left - 1
            if (a == b and c == d) or (a == c and b == d):
                continue
            # A pixel has a corner where it is alone, or lies between two others of its label.
            if a >= 0 and (a == b) == (a == c) and not (a == b and a == d):
                counts[a] += 1
            if b >= 0 and (b == a) == (b == d) and not (b == a and b == c):
                counts[b] += 1
            if c >= 0 and (c == d) == (c == a) and not (c == d and c == b):
                counts[c] += 1
            if d >= 0 and (d == c) == (d == b) and not (d == c and d == a):
                counts[d] += 1
    return counts


@compiled
def trace_corners(  # noqa: C901 - shared code in a helper made the loop slower
    row_ends: NDArray[np.int64],
    start: NDArray[np.int32],
    feature: NDArray[np.int32],
    n_cols: int,
    lines: tuple[int, int, int],
    south: NDArray[np.int32],
    north: NDArray[np.int32],
    points: NDArray[np.int32],
    after: NDArray[np.int32],
    label: NDArray[np.int32],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Find the corners of the outlines of features, line by line, each linked to the next corner.

    An outline has its feature on the right. Where two pixels of one feature touch only at a corner,
    the outline crosses to the other pixel: what they enclose gets its own ring, and no ring touches
    itself. Where an outline runs straight past a point at which another feature begins or ends, it
    gets a corner too, so that both outlines have the same points.

    Parameters
    ----------
    row_ends, start
        Runs of rows.
    feature
        ``(n_runs,)``: feature of each run; -1 for none.
    n_cols
        Columns of the scene.
    lines
        First lattice line and the one after the last, counted from the upper edge of the first
        row here, and the number of that edge in the scene. Beyond the rows nothing is a feature.
    south, north
        ``(n_cols + 1,)``, changed in place: along each column edge the corner above, of the
        outline that comes from it and of the one that leads to it.
    points, after, label
        Open corners of the lines before, which outlines continue.

    Returns
    -------
    points
        ``(n, 2)``, (col, row): the given ones and the new ones, in the order of lines.
    after
        ``(n,)``: next corner of each one; -1 where it is not known yet.
    label
        ``(n,)``: feature of each corner.
    """
    n_corners = len(points)
    n_rows = len(row_ends) - 1
    first_line, end_line, offset = lines
    # The four pixels around a point: 0 1 above, 2 3 below.
    around = np.empty(4, np.int32)
    for line in range(first_line, end_line):
        above, above_end = row_ends[max(line - 1, 0)], row_ends[line]
        below, below_end = row_ends[line], row_ends[min(line + 1, n_rows)]
        # Each row has one edge more than it has runs: the edge of the scene.
        above_left = above_end - above + 1 if above_end > above else 0
        below_left = below_end - below + 1 if below_end > below else 0
        top, bottom = np.int32(-1), np.int32(-1)
        around[:] = -1
        while above_left or below_left:
            above_x = below_x = n_cols
            if above_left > 1:
                above_x = start[above]
            if below_left > 1:
                below_x = start[below]
            x = min(above_x, below_x)
            around[0], around[2] = around[1], around[3]
            if above_left and above_x == x:
                around[1] = feature[above] if above_left > 1 else -1
                above, above_left = above + 1, above_left - 1
            if below_left and below_x == x:
                around[3] = feature[below] if below_left > 1 else -1
                below, below_left = below + 1, below_left - 1
            if around[0] == around[1] and around[2] == around[3]:
                continue
            if around[0] == around[2] and around[1] == around[3]:
                continue
            if n_corners + 4 > len(points):
                points, after, label = _enlarged(points, after, label)
            from_north, to_north, to_west, from_west = south[x], north[x], bottom, top
            for place in range(4):
                own = around[place]
                if own < 0:
                    continue
                side, over, across = around[place ^ 1], around[place ^ 2], around[place ^ 3]
                touching = (
                    (side >= 0 and side != own)
                    or (over >= 0 and over != own)
                    or (across >= 0 and across != own)
                )
                # Pixels whose edges meet at the corner: the outline arrives along `comes` and
                # leaves along `goes`.
                if side != own and over != own:
                    comes = goes = place
                    if across == own:
                        goes = place ^ 3
                elif across == own:
                    continue
                elif side == own and over == own:
                    comes = place ^ 1 if place in (0, 3) else place ^ 2
                    goes = comes ^ 3
                elif side == own:
                    if place in (1, 3) or over == across or not touching:
                        continue
                    comes, goes = (1, 0) if place == 0 else (2, 3)
                else:
                    if place in (2, 3) or side == across or not touching:
                        continue
                    comes, goes = (0, 2) if place == 0 else (3, 1)
                corner = np.int32(n_corners)
                n_corners += 1
                points[corner, 0], points[corner, 1] = x, line + offset
                label[corner] = own
                after[corner] = -1
                if comes == 0:
                    if from_north >= 0:
                        after[from_north] = corner
                elif comes == 1:
                    bottom = corner
                elif comes == 2:
                    if from_west >= 0:
                        after[from_west] = corner
                else:
                    north[x] = corner
                if goes == 0:
                    after[corner] = to_west
                elif goes == 1:
                    after[corner] = to_north
                elif goes == 2:
                    south[x] = corner
                else:
                    top = corner
    return points[:n_corners], after[:n_corners], label[:n_corners]


@compiled
def _enlarged(
    points: NDArray[np.int32], after: NDArray[np.int32], label: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    filled = len(points)
    size = 2 * filled + 1024
    more_points = np.empty((size, 2), np.int32)
    more_after, more_label = np.empty(size, np.int32), np.empty(size, np.int32)
    more_points[:filled], more_after[:filled], more_label[:filled] = points, after, label
    return more_points, more_after, more_label


@compiled
def find_rings(
    after: NDArray[np.int32],
) -> tuple[NDArray[np.bool_], NDArray[np.int32], NDArray[np.int64]]:
    """Find the closed rings by following the links of corners.

    Returns
    -------
    is_open
        ``(n_corners,)``: whether the corner is in no closed ring yet.
    order
        Corners of the closed rings, end to end: each from its first corner back to it, against
        the direction of the links.
    ring_ends
        ``(n_rings + 1,)``; rings are in the order of their first corners.
    """
    n_corners = len(after)
    unknown, on_the_way, opened, closed, taken = 0, 1, 2, 3, 4
    state = np.full(n_corners, unknown, np.uint8)
    n_rings = n_closed = 0
    for first in range(n_corners):
        if state[first] != unknown:
            continue
        corner = first
        while corner >= 0 and state[corner] == unknown:
            state[corner] = on_the_way
            corner = after[corner]
        found = closed if corner == first else opened
        n_rings += found == closed
        corner = first
        while corner >= 0 and state[corner] == on_the_way:
            state[corner] = found
            n_closed += found == closed
            corner = after[corner]
    order = np.empty(n_closed + n_rings, np.int32)
    ring_ends = np.zeros(n_rings + 1, np.int64)
    ring = 0
    for first in range(n_corners):
        if state[first] != closed:
            continue
        size = 0
        corner = first
        while state[corner] == closed:
            state[corner] = taken
            size += 1
            corner = after[corner]
        place = ring_ends[ring]
        ring_ends[ring + 1] = place + size + 1
        order[place] = first
        corner = first
        for back in range(size, 0, -1):
            order[place + back] = corner
            corner = after[corner]
        ring += 1
    return state == opened, order, ring_ends


@compiled
def double_areas(points: NDArray[np.int32], ring_ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Compute twice the area inside each ring; negative for rings clockwise on the map."""
    areas = np.zeros(len(ring_ends) - 1, np.int64)
    for ring in range(len(areas)):
        for point in range(ring_ends[ring], ring_ends[ring + 1] - 1):
            x, y = np.int64(points[point, 0]), np.int64(points[point, 1])
            # Rows grow downwards.
            areas[ring] -= x * points[point + 1, 1] - points[point + 1, 0] * y
    return areas
