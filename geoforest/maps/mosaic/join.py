"""Patches that go on in another zone: found along meridians and the equator. Arrays only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from geoforest.arrays.grid import Window
    from geoforest.arrays.zones import Numbers, Zone, ZoneGrid


class Patches(Protocol):
    """Patches of a zone's mask; see :class:`geoforest.arrays.polygons.patches.PatchFinder`."""

    def patches_at(self, rows: Numbers, cols: Numbers) -> tuple[Numbers, Numbers]:
        """First pixel and number of pixels of the patches that some pixels are of."""


@dataclass(frozen=True, eq=False)
class Joined:
    """Patches of one zone that go on in others.

    Attributes
    ----------
    first
        First pixels in the mask of the zone, sorted.
    patch_id
        Number of the whole patch: that of its first pixel in the first of its zones.
    elsewhere
        Pixels that it has in other zones.
    """

    first: Numbers
    patch_id: Numbers
    elsewhere: Numbers


def join_zones(
    zones: Mapping[Zone, tuple[ZoneGrid, Window, Patches]],
) -> dict[Zone, Joined]:
    """Find the patches that touch across a border of zones in more than a point.

    Parameters
    ----------
    zones
        Of each zone its grid, the pixels of its mask, and what knows its patches.
    """
    pairs: list[tuple[Zone, Zone, Numbers, Numbers]] = []
    known: dict[Zone, dict[int, int]] = {zone: {} for zone in zones}
    for zone, (grid, window, patches) in zones.items():
        if zone.east in zones:
            other_grid, other_window, others = zones[zone.east]
            left = grid.border(eastern=True, window=window)
            right = other_grid.border(eastern=False, window=other_window)
            one, other = _along(left, right)
            places = (left[0][one], left[1][one]), (right[0][other], right[1][other])
            pairs.append(
                _met(zone, zone.east, window, other_window, patches, others, places, known)
            )
        if zone.south and zone.across in zones:
            other_grid, other_window, others = zones[zone.across]
            cols = np.arange(window.col_off, window.col_off + window.width)
            south = np.full(len(cols), _row_before(grid, zone.equator_m))
            north = np.full(len(cols), -1)
            places = (south, cols), (north, cols)
            pairs.append(
                _met(zone, zone.across, window, other_window, patches, others, places, known)
            )
    return _grouped(zones, pairs, known)


def _row_before(grid: ZoneGrid, equator_m: float) -> int:
    """Row just south of the equator."""
    return int(np.floor(-(equator_m - grid.size * 1e-6) / grid.size))


def _along(
    one: tuple[Numbers, Numbers, NDArray[np.float64]],
    other: tuple[Numbers, Numbers, NDArray[np.float64]],
) -> tuple[Numbers, Numbers]:
    """Stretches of two divisions of a meridian that have more than a point in common."""
    cuts = np.unique(np.concatenate([one[2], other[2]]))
    middle = (cuts[:-1] + cuts[1:]) / 2
    inside = cuts[1:] - cuts[:-1] > 1e-12
    for _, _, latitudes in (one, other):
        inside &= (middle < latitudes[0]) & (middle > latitudes[-1])
    middle = middle[inside]
    first, second = (np.searchsorted(-latitudes, -middle) - 1 for _, _, latitudes in (one, other))
    return first, second


def _met(
    zone: Zone,
    beyond: Zone,
    window: Window,
    other_window: Window,
    patches: Patches,
    others: Patches,
    places: tuple[tuple[Numbers, Numbers], tuple[Numbers, Numbers]],
    known: dict[Zone, dict[int, int]],
) -> tuple[Zone, Zone, Numbers, Numbers]:
    found = []
    for name, pixels, of, (rows, cols) in (
        (zone, window, patches, places[0]),
        (beyond, other_window, others, places[1]),
    ):
        first, sizes = of.patches_at(rows - pixels.row_off, cols - pixels.col_off)
        found.append((name, first, sizes))
    met = (found[0][1] >= 0) & (found[1][1] >= 0)
    for name, first, sizes in found:
        known[name].update(zip(first[met].tolist(), sizes[met].tolist(), strict=True))
    return zone, beyond, found[0][1][met], found[1][1][met]


def _grouped(
    zones: Mapping[Zone, tuple[ZoneGrid, Window, Patches]],
    pairs: list[tuple[Zone, Zone, Numbers, Numbers]],
    known: dict[Zone, dict[int, int]],
) -> dict[Zone, Joined]:
    order = sorted(zones)
    first = {zone: np.array(sorted(known[zone]), np.int64) for zone in order}
    starts = dict(zip(order, np.cumsum([0, *(len(first[zone]) for zone in order)]), strict=False))
    total = sum(len(some) for some in first.values())
    if not total:
        return {zone: Joined(*(np.zeros(0, np.int64) for _ in range(3))) for zone in order}
    edges = [
        (
            starts[one] + np.searchsorted(first[one], ones),
            starts[other] + np.searchsorted(first[other], others),
        )
        for one, other, ones, others in pairs
    ]
    rows, cols = (np.concatenate(side) for side in zip(*edges, strict=True))
    graph = coo_array((np.ones(len(rows), np.bool_), (rows, cols)), shape=(total, total))
    count, group = connected_components(graph, directed=False)
    ids, pixels = [], []
    for zone in order:
        grid, window, _ = zones[zone]
        ids.append(global_ids(grid, window, first[zone]))
        pixels.append(np.array([known[zone][one] for one in first[zone].tolist()], np.int64))
    every_id, every_px = np.concatenate(ids), np.concatenate(pixels)
    lowest = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(lowest, group, every_id)
    sums = np.zeros(count, np.int64)
    np.add.at(sums, group, every_px)
    found = {}
    for zone in order:
        place = slice(starts[zone], starts[zone] + len(first[zone]))
        found[zone] = Joined(
            first[zone], lowest[group[place]], sums[group[place]] - every_px[place]
        )
    return found


def global_ids(grid: ZoneGrid, window: Window, first: Numbers) -> Numbers:
    """Give pixels of a zone's mask, ``row * cols + col``, numbers that no other zone's has."""
    return grid.ids(first // window.width + window.row_off, first % window.width + window.col_off)
