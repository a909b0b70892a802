"""Outlines with fewer points: arc by arc, so that what polygons share stays shared. Arrays only.

An arc is the piece of a ring from one fixed point to the next. Each is simplified by itself, once,
whichever polygons it belongs to. What a shortcut cuts off must hold no other vertex; where it does,
that stretch is simplified again with half the tolerance, and in the end left as it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray

from geoforest.errors import InputError

Points: TypeAlias = NDArray[np.float64]
Numbers: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]

HALVINGS: Final = 3
"""How often the tolerance of a stretch is halved before it is left as it was."""

# Points that are looked up at a time: as objects they take twenty times the memory.
_BATCH_POINTS = 250_000


def simplify(
    points: Points,
    ring_ends: Numbers,
    polygon_ends: Numbers,
    fixed: Flags,
    tolerance: float,
    *,
    others: Points | None = None,
) -> tuple[Points, Numbers, Numbers]:
    """Leave out points of polygons, keeping the rest and their topology.

    Parameters
    ----------
    points
        float64 ``(n, 2)``, (col, row): closed rings laid end to end. Best as pixel corners, whole
        numbers, because then it is decided exactly whether a point lies on a line.
    ring_ends
        int64 ``(n_rings + 1,)``: first point of each ring, and the number of points.
    polygon_ends
        int64 ``(n_polygons + 1,)``: first ring of each polygon, its exterior, and the number of
        rings.
    fixed
        bool ``(n,)``: points that stay. These must be among them: points where rings touch, part
        or meet again, those on lines that polygons were cut along, and those on the edge of the
        scene.
    tolerance
        How far a point that is left out may lie from the new outline, in units of ``points``; 0
        changes nothing.
    others
        ``(m, 2)``: vertices of outlines nearby that are simplified in other calls.

    Returns
    -------
    points, ring_ends, polygon_ends
        As many rings and polygons, in the same order and going the same way around. A ring begins
        at its first point that had to stay.

    Raises
    ------
    InputError
        When the tolerance is negative or no number.

    Notes
    -----
    Polygons that are valid and do not overlap stay so, whatever the tolerance, and no polygon is
    looked at as a whole: one with a million vertices costs no more than as many in small ones.
    Rings neither vanish nor collapse, and every vertex of the input stays on its side of every
    ring. For if two new edges crossed, or a vertex changed sides, some vertex of the input would
    lie in what a shortcut cuts off (by the parity of crossings), and no such shortcut is taken.

    This holds among the polygons of one call, and towards those of other calls where ``others``
    names their vertices; of an arc that is shared with another call, nothing is then left out.
    Pieces that were cut along straight lines keep to their side of them in any case. Where a
    corner of one piece lies within an edge of the next, the latter gets no point there, and a bay
    that opens to it may close.

    On pixel corners, tolerances up to 0.72 px never met another vertex in what was tried; at 1 px
    one shortcut in a hundred to a thousand did.

    Neither the order of polygons nor where their rings begin matters, nor which way they go.

    Examples
    --------
    Stairs become a slope; the corners at their ends are fixed.

    >>> stairs = np.array([[0, 0], [1, 0], [1, 1], [2, 1], [2, 2], [3, 2], [3, 3], [0, 3], [0, 0]])
    >>> corner = np.isin(np.arange(9), [0, 6, 7, 8])
    >>> points, ring_ends, _ = simplify(
    ...     stairs.astype(float), np.array([0, 9]), np.array([0, 1]), corner, 0.8
    ... )
    >>> points.tolist()
    [[0.0, 0.0], [3.0, 3.0], [0.0, 3.0], [0.0, 0.0]]
    """
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise InputError(f"tolerance {tolerance}: 0 or more was wanted")
    if tolerance == 0 or not len(points):
        return points.copy(), ring_ends.copy(), polygon_ends.copy()
    arcs = _split(points, ring_ends, fixed)
    lines, line_of_arc = _distinct(points, arcs)
    kept = _simplify_lines(lines, tolerance, np.empty((0, 2)) if others is None else others)
    return *_joined(lines, kept, arcs, line_of_arc), polygon_ends.copy()


@dataclass(frozen=True, eq=False)
class _Arcs:
    """Pieces of rings, in the order of rings.

    Attributes
    ----------
    walk
        Numbers of points: rings, each from one of its fixed points around to it again.
    first, last
        Places in ``walk`` where each arc begins and ends.
    turned
        Arcs whose canonical direction is the other one.
    closes
        The last arc of each ring.
    """

    walk: Numbers
    first: Numbers
    last: Numbers
    turned: Flags
    closes: Flags


@dataclass(frozen=True, eq=False)
class _Lines:
    """Arcs without repetition, in their canonical directions, laid end to end.

    Attributes
    ----------
    points
        ``(n, 2)``.
    ends
        First point of each line, and the number of points.
    """

    points: Points
    ends: Numbers

    def number(self) -> Numbers:
        """Line of each point."""
        return np.repeat(np.arange(len(self.ends) - 1), np.diff(self.ends))


def _split(points: Points, ring_ends: Numbers, fixed: Flags) -> _Arcs:
    """Cut rings at their fixed points, and where these are too few, at points of their shape."""
    lengths = np.diff(ring_ends)
    opening, closing = ring_ends[:-1], ring_ends[1:] - 1
    cut = fixed.copy()
    cut[opening] |= fixed[closing]
    cut[closing] = False
    bare = np.add.reduceat(cut.astype(np.int64), opening) == 0
    cut[_lowest(points, opening[bare], closing[bare])] = True

    # Every ring now begins anew at its first cut; the closing point repeats that.
    ring = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(points))
    first_cut = np.minimum.reduceat(np.where(cut, place, len(points)), opening)
    around = (place - opening[ring] + (first_cut - opening)[ring]) % (lengths - 1)[ring]
    walk = opening[ring] + around
    cut = cut[walk]

    first, last = _between(cut, opening, closing)
    loop = (points[walk[first]] == points[walk[last]]).all(axis=1)
    away = _farthest(points[walk], first[loop], last[loop])
    cut[away] = True
    first, last = _between(cut, opening, closing)
    x, y = points[walk].T
    turned = (y[last] < y[first]) | ((y[last] == y[first]) & (x[last] < x[first]))
    return _Arcs(walk, first, last, turned, np.isin(last, closing))


def _between(cut: Flags, opening: Numbers, closing: Numbers) -> tuple[Numbers, Numbers]:
    """Each cut but a ring's closing one, and the next."""
    begins, ends = cut.copy(), cut.copy()
    begins[closing] = False
    ends[opening] = False
    return np.flatnonzero(begins), np.flatnonzero(ends)


def _lowest(points: Points, first: Numbers, stop: Numbers) -> Numbers:
    """First point in the order of (row, col) of each range."""
    place, ends = _ranges(first, stop)
    return place[_least(ends, points[place, 1], points[place, 0])]


def _farthest(points: Points, first: Numbers, stop: Numbers) -> Numbers:
    """Point farthest from the first one of each range; of several, that in the order of rows."""
    place, ends = _ranges(first, stop)
    start = points[np.repeat(first, stop - first)]
    away = ((points[place] - start) ** 2).sum(axis=1)
    return place[_least(ends, -away, points[place, 1], points[place, 0])]


def _least(ends: Numbers, *keys: Points) -> Numbers:
    """Place of the least in each range, by the first key, then by the next."""
    if len(ends) == 1:
        return np.empty(0, np.int64)
    starts, lengths = ends[:-1], np.diff(ends)
    among = np.ones(len(keys[0]), np.bool_)
    for key in keys:
        left = np.where(among, key, np.inf)
        among &= left == np.repeat(np.minimum.reduceat(left, starts), lengths)
    found = np.flatnonzero(among)
    least: Numbers = found[np.searchsorted(found, starts)]
    return least


def _ranges(first: Numbers, stop: Numbers) -> tuple[Numbers, Numbers]:
    """All numbers of some ranges, laid end to end, and where each range ends."""
    ends = np.concatenate([[0], np.cumsum(stop - first)]).astype(np.int64)
    return np.arange(ends[-1]) + np.repeat(first - ends[:-1], stop - first), ends


def _distinct(points: Points, arcs: _Arcs) -> tuple[_Lines, Numbers]:
    """Each arc once, however many rings have it; and for each arc, which one that is.

    Between fixed points outlines do not part: arcs with the same two ends and the same points
    beside these are the same.
    """
    corners = [arcs.first, arcs.first + 1, arcs.last - 1, arcs.last]
    ways = [np.where(arcs.turned, a, b) for a, b in zip(corners[::-1], corners, strict=True)]
    keys = [points[arcs.walk[way], axis] for way in ways for axis in (0, 1)]
    keys.append(arcs.last - arcs.first)
    line, example = _groups(keys)
    first, last, turned = arcs.first[example], arcs.last[example], arcs.turned[example]
    place, ends = _ranges(first, last + 1)
    mirror = np.repeat(first + last, last + 1 - first) - place
    place = np.where(np.repeat(turned, last + 1 - first), mirror, place)
    return _Lines(points[arcs.walk[place]], ends), line


def _groups(keys: list[NDArray[Any]]) -> tuple[Numbers, Numbers]:
    """Give rows that are alike in all keys one number; for each number, tell a row of it."""
    order = np.lexsort(keys)
    new = np.ones(len(order), np.bool_)
    new[1:] = np.any([key[order][1:] != key[order][:-1] for key in keys], axis=0)
    number = np.empty(len(order), np.int64)
    number[order] = np.cumsum(new) - 1
    return number, order[new]


def _simplify_lines(lines: _Lines, tolerance: float, others: Points) -> Flags:
    """Choose the points that stay."""
    line = lines.number()
    kept = np.zeros(len(line), np.bool_)
    kept[lines.ends[:-1]] = kept[lines.ends[1:] - 1] = True
    clear = np.zeros(len(line), np.bool_)  # shortcuts from here that nothing is wrong with
    first, last = lines.ends[:-1], lines.ends[1:] - 1
    halved = 0
    while len(first):
        if halved <= HALVINGS:
            kept[_simplified(lines.points, first, last, tolerance / 2**halved)] = True
        else:
            kept[_ranges(first, last)[0]] = True
        halved += 1
        clear[first] = False
        place = np.flatnonzero(kept)
        first, last = place[:-1], place[1:]
        inside = line[first] == line[last]
        first, last = first[inside], last[inside]
        wrong = _coincide(lines, first, last) & (last - first > 1)
        unknown = np.flatnonzero((last - first > 1) & ~clear[first])
        wrong[unknown] |= _cuts_off(lines.points, others, first[unknown], last[unknown])
        clear[first] = True
        first, last = first[wrong], last[wrong]
    return kept


def _simplified(points: Points, first: Numbers, last: Numbers, tolerance: float) -> Numbers:
    """Points that Douglas and Peucker keep of stretches, by number."""
    long = last - first > 1
    place, ends = _ranges(first[long], last[long] + 1)
    if not len(place):
        return place
    # Height carries the number of each point through the library.
    numbered = np.column_stack([points[place], place])
    stretch = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
    made = shapely.linestrings(numbered, indices=stretch)
    made = shapely.simplify(made, tolerance, preserve_topology=False)
    kept: Numbers = shapely.get_coordinates(made, include_z=True)[:, 2].astype(np.int64)
    return kept


def _coincide(lines: _Lines, first: Numbers, last: Numbers) -> Flags:
    """Shortcuts that are the whole of a line, as another one is between the same two points."""
    found = np.zeros(len(first), np.bool_)
    whole = np.flatnonzero(np.isin(first, lines.ends[:-1]) & np.isin(last, lines.ends[1:] - 1))
    keys = [lines.points[end[whole], axis] for end in (first, last) for axis in (0, 1)]
    number, example = _groups(keys)
    found[whole] = np.bincount(number, minlength=len(example))[number] > 1
    return found


def _cuts_off(points: Points, others: Points, first: Numbers, last: Numbers) -> Flags:
    """Shortcuts that have other points between them and what they replace, or on them."""
    found = np.zeros(len(first), np.bool_)
    if not len(first):
        return found
    place, ends = _ranges(first, last + 1)
    shortcut = np.repeat(np.arange(len(first)), np.diff(ends))
    # Often no polygons, as they cross themselves: points in these are told by parity, as they
    # should be.
    between = shapely.polygons(shapely.linearrings(points[place], indices=shortcut))
    tree = shapely.STRtree(between)
    # Points of other calls belong to no stretch.
    everything = np.concatenate([points, others])
    number = np.arange(len(everything))
    number[len(points) :] = -1
    for start in range(0, len(everything), _BATCH_POINTS):
        batch = everything[start : start + _BATCH_POINTS]
        point, near = tree.query(shapely.points(batch))
        own = number[start + point]
        foreign = (own < first[near]) | (own > last[near])
        for end in (first, last):
            foreign &= (batch[point] != points[end[near]]).any(axis=1)
        point, near = point[foreign], near[foreign]
        hit = between[near]
        shapely.prepare(hit)
        found[near[shapely.intersects_xy(hit, batch[point])]] = True
    return found


def _joined(
    lines: _Lines, kept: Flags, arcs: _Arcs, line_of_arc: Numbers
) -> tuple[Points, Numbers]:
    """Rings of what was kept of their arcs."""
    points = lines.points[kept]
    ends = np.concatenate([[0], np.cumsum(np.add.reduceat(kept, lines.ends[:-1], dtype=np.int64))])
    first, last = ends[line_of_arc], ends[line_of_arc + 1] - 1
    # The end of an arc is the beginning of the next, but for the last of a ring.
    lengths = last - first + arcs.closes
    step, arc_ends = _ranges(np.zeros_like(lengths), lengths)
    turned = np.repeat(arcs.turned, lengths)
    place = np.where(turned, np.repeat(last, lengths) - step, np.repeat(first, lengths) + step)
    ring_ends = np.concatenate([[0], arc_ends[1:][arcs.closes]])
    return points[place], ring_ends
