"""Loops over pixels that NumPy has no fast words for, compiled by numba at their first call.

Import this module where it is used: loading the compiler takes half a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

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
def encode_runs(
    mask: NDArray[np.uint8], stored: NDArray[np.uint8], starts_cell: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.uint8], NDArray[np.int64]]:
    """Cut every row in runs of one code; a cell of the product grid begins a new run, too.

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


@_compiled
def _root(parent: NDArray[np.int32], run: int) -> int:
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = parent[run]
    return run


@_compiled
def _join(parent: NDArray[np.int32], one: int, other: int) -> None:
    # The earlier run is the root, so that components come in the order of their first pixels.
    one, other = _root(parent, one), _root(parent, other)
    if one < other:
        parent[other] = one
    else:
        parent[one] = other


@_compiled
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
        Only runs of the same key are joined; those below 0 belong to nothing.
    corners_touch
        Whether two runs that touch at a corner only are joined (8-connectivity).

    Returns
    -------
    component
        ``(n_runs,)``, from 0 in the order of first pixels; -1 where the key is below 0.
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


@_compiled
def neighbours_of(
    row_ends: NDArray[np.int64],
    start: NDArray[np.int32],
    end: NDArray[np.int32],
    component: NDArray[np.int32],
    n_components: int,
    patch: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lowest and highest patch along the edges of each component.

    ``patch`` is below 0 wherever ``component`` is not, and the other way round. Where a component
    touches no patch, the lowest is the largest number and the highest is -1.
    """
    lowest = np.full(n_components, np.iinfo(np.int64).max)
    highest = np.full(n_components, -1, np.int64)
    for row in range(len(row_ends) - 1):
        above, above_end = row_ends[max(row - 1, 0)], row_ends[row]
        for run in range(row_ends[row], row_ends[row + 1]):
            if run > row_ends[row]:
                _meet(run - 1, run, component, patch, lowest, highest)
            while above < above_end and end[above] <= start[run]:
                above += 1
            other = above
            while other < above_end and start[other] < end[run]:
                _meet(other, run, component, patch, lowest, highest)
                other += 1
    return lowest, highest


@_compiled
def _meet(
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


@_compiled
def sum_runs(
    values: NDArray[np.int64], component: NDArray[np.int32], n_components: int
) -> NDArray[np.int64]:
    """Sum of a value of runs over each component."""
    sums = np.zeros(n_components, np.int64)
    for run in range(len(values)):
        if component[run] >= 0:
            sums[component[run]] += values[run]
    return sums


@_compiled
def count_corners(
    row_ends: NDArray[np.int64],
    start: NDArray[np.int32],
    label: NDArray[np.int32],
    n_cols: int,
    lines: tuple[int, int, int],
    n_labels: int,
) -> NDArray[np.int64]:
    """Corners of the outlines of each label along lattice lines; see :func:`trace_corners`.

    No two labels share an edge.
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
            # A pixel alone has a corner, and so has the one between two others.
            if a >= 0 and (a == b) == (a == c) and not (a == b and a == d):
                counts[a] += 1
            if b >= 0 and (b == a) == (b == d) and not (b == a and b == c):
                counts[b] += 1
            if c >= 0 and (c == d) == (c == a) and not (c == d and c == b):
                counts[c] += 1
            if d >= 0 and (d == c) == (d == b) and not (d == c and d == a):
                counts[d] += 1
    return counts


@_compiled
def _along(
    values: NDArray[np.float64],
    before: NDArray[np.float64],
    line: float,
    at: float,
    line_px: float,
    at_px: float,
    unit: float,
) -> np.int64:
    """Integral of a bilinear table along a line, from 0 to a place, in whole units.

    Parameters
    ----------
    values
        ``(line node, node along the line)``.
    before
        The same shape: integral up to each node, in steps of nodes.
    line, at
        Pixels across the lines, and along this one.
    line_px, at_px
        Distance of nodes, in pixels.
    unit
        What the integral is counted in.
    """
    row = min(int(line / line_px), values.shape[0] - 2)
    col = min(int(at / at_px), values.shape[1] - 2)
    down, right = line / line_px - row, at / at_px - col
    total = 0.0
    for node, share in ((row, 1 - down), (row + 1, down)):
        here, there = values[node, col], values[node, col + 1]
        total += share * (before[node, col] + here * right + (there - here) * right * right / 2)
    return np.int64(np.floor(total * at_px / unit + 0.5))


@_compiled
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
    """Ground area of each run: whole numbers, so that sums do not depend on their order."""
    areas = np.empty(len(start), np.int64)
    for row in range(len(row_ends) - 1):
        line = first_row + row + 0.5
        for run in range(row_ends[row], row_ends[row + 1]):
            upto = _along(area, before, line, end[run], row_px, col_px, unit)
            areas[run] = upto - _along(area, before, line, start[run], row_px, col_px, unit)
    return areas


@_compiled
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
    """Ground length of all rings of each polygon, in whole units.

    ``points`` are (col, row); every edge runs along a row or a column. Tables of height have
    nodes of columns first, those of width nodes of rows.
    """
    lengths = np.zeros(len(polygon_ends) - 1, np.int64)
    for polygon in range(len(lengths)):
        for ring in range(polygon_ends[polygon], polygon_ends[polygon + 1]):
            for point in range(ring_ends[ring], ring_ends[ring + 1] - 1):
                x, y = points[point]
                next_x, next_y = points[point + 1]
                if y == next_y:
                    here = _along(width, width_before, y, x, row_px, col_px, unit)
                    there = _along(width, width_before, y, next_x, row_px, col_px, unit)
                else:
                    here = _along(height, height_before, x, y, col_px, row_px, unit)
                    there = _along(height, height_before, x, next_y, col_px, row_px, unit)
                lengths[polygon] += abs(there - here)
    return lengths


@_compiled
def trace_corners(
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
    fixed: NDArray[np.bool_],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
    """Corners of the outlines of features along lattice lines, each linked to the next one.

    Outlines have their feature to the right. Where two pixels of one feature touch at a corner
    only, the outline crosses over to the other one: what they enclose gets a ring of its own, and
    no ring touches itself. Where an outline passes straight by a point at which another feature
    begins or ends, it has a corner, too, so that both have the same points.

    Parameters
    ----------
    row_ends, start
        Runs of rows.
    feature
        ``(n_runs,)``; -1 for none.
    n_cols
        Columns of the scene.
    lines
        First lattice line and the one after the last, counted from the upper edge of the first
        row here, and the number of that edge in the scene. Beyond the rows there is nothing.
    south, north
        ``(n_cols + 1,)``, changed in place: along each column edge the corner above, of the
        outline that comes from it and of the one that leads to it.
    points, after, label, fixed
        Corners of the lines before, which outlines go on from.

    Returns
    -------
    points
        ``(n, 2)``, (col, row); those given, and new ones, in the order of lines.
    after
        ``(n,)``: the corner after each one; -1 where it is not known yet.
    label
        ``(n,)``: feature of each corner.
    fixed
        ``(n,)``: whether features or rings touch there, or the scene ends.
    """
    n_corners = len(points)
    n_rows = len(row_ends) - 1
    first_line, end_line, offset = lines
    # The four pixels around a point: 0 1 above, 2 3 below.
    around = np.empty(4, np.int32)
    for line in range(first_line, end_line):
        above, above_end = row_ends[max(line - 1, 0)], row_ends[line]
        below, below_end = row_ends[line], row_ends[min(line + 1, n_rows)]
        is_outside = line in (0, n_rows)
        # Each row has one edge more than runs: the scene's.
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
                points, after, label, fixed = _enlarged(points, after, label, fixed)
            from_north, to_north, to_west, from_west = south[x], north[x], bottom, top
            is_edge = is_outside or x == 0 or x == n_cols
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
                # Pixels whose edges meet at the corner: of the one that the outline comes along,
                # and of the one that it goes on along.
                if side != own and over != own:
                    comes = goes = place
                    if across == own:
                        goes, touching = place ^ 3, True
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
                fixed[corner] = touching or is_edge
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
    return points[:n_corners], after[:n_corners], label[:n_corners], fixed[:n_corners]


@_compiled
def _enlarged(
    points: NDArray[np.int32],
    after: NDArray[np.int32],
    label: NDArray[np.int32],
    fixed: NDArray[np.bool_],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
    filled = len(points)
    size = 2 * filled + 1024
    more_points = np.empty((size, 2), np.int32)
    more_after, more_label = np.empty(size, np.int32), np.empty(size, np.int32)
    more_fixed = np.empty(size, np.bool_)
    more_points[:filled], more_after[:filled] = points, after
    more_label[:filled], more_fixed[:filled] = label, fixed
    return more_points, more_after, more_label, more_fixed


@_compiled
def find_rings(
    after: NDArray[np.int32],
) -> tuple[NDArray[np.bool_], NDArray[np.int32], NDArray[np.int64]]:
    """Follow corners to the rings that are closed.

    Returns
    -------
    is_open
        ``(n_corners,)``: whether the corner is in no closed ring yet.
    order
        Corners of the closed rings, end to end: each from its first corner on, against the way
        that they are linked, and back to the first one.
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


@_compiled
def double_areas(points: NDArray[np.int32], ring_ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Twice the area inside each ring, below 0 for those that go clockwise on the map."""
    areas = np.zeros(len(ring_ends) - 1, np.int64)
    for ring in range(len(areas)):
        for point in range(ring_ends[ring], ring_ends[ring + 1] - 1):
            x, y = np.int64(points[point, 0]), np.int64(points[point, 1])
            # Rows grow downwards.
            areas[ring] -= x * points[point + 1, 1] - points[point + 1, 0] * y
    return areas
