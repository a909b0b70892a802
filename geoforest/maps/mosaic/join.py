"""Find patches that continue in another zone, along its borders. Arrays only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geoforest.arrays.zones import Numbers, Zone

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from geoforest.arrays.grid import Window
    from geoforest.arrays.zones import ZoneGrid

# Two zones, and first pixels of patches of each that face each other.
_Pair = tuple[Zone, Zone, Numbers, Numbers]


class Patches(Protocol):
    """Patches of a zone's mask; see :class:`geoforest.arrays.polygons.patches.PatchFinder`."""

    def patches_at(self, rows: Numbers, cols: Numbers) -> tuple[Numbers, Numbers]:
        """Return first pixel and number of pixels of the patch at each pixel; -1 outside."""


@dataclass(frozen=True, eq=False)
class Joined:
    """Patches of one zone that continue in others.

    Attributes
    ----------
    first
        First pixels in the mask of the zone, sorted.
    patch_id
        Id of the whole patch: the id of its first pixel in the first of its zones.
    elsewhere
        Number of its pixels in other zones.
    """

    first: Numbers
    patch_id: Numbers
    elsewhere: Numbers


def join_zones(
    zones: Mapping[Zone, tuple[ZoneGrid, Window, Patches]],
) -> dict[Zone, Joined]:
    """Find the patches that share more than a point across a border of zones.

    Parameters
    ----------
    zones
        Grid, pixels of the mask, and patches of each zone.
    """
    pairs: list[_Pair] = []
    known: dict[Zone, dict[int, int]] = {zone: {} for zone in zones}
    for zone, (grid, window, patches) in zones.items():
        for other in sorted(one for one in zones if zone < one):
            other_grid, other_window, others = zones[other]
            for border in zone.borders(other):
                left = grid.pixels_along(border, window)
                right = other_grid.pixels_along(border, other_window)
                one, its = _overlapping_stretches(left, right)
                here = _Side(zone, window, patches, left[0][one], left[1][one])
                there = _Side(other, other_window, others, right[0][its], right[1][its])
                pairs.append(_touching_patches(here, there, known))
        if zone.south and zone.across in zones:
            _, other_window, others = zones[zone.across]
            cols = np.arange(window.col_off, window.col_off + window.width)
            south = np.full(len(cols), _row_south_of_equator(grid, zone.equator_m))
            here = _Side(zone, window, patches, south, cols)
            there = _Side(zone.across, other_window, others, np.full(len(cols), -1), cols)
            pairs.append(_touching_patches(here, there, known))
    return _number_patches(zones, pairs, known)


@dataclass(frozen=True)
class _Side:
    """One side of a border: zone, pixels of its mask, its patches, rows and columns along it."""

    zone: Zone
    window: Window
    patches: Patches
    rows: Numbers
    cols: Numbers

    def patches_along(self) -> tuple[Numbers, Numbers]:
        """Return first pixel and number of pixels of the patch at each place; -1 outside."""
        window = self.window
        return self.patches.patches_at(self.rows - window.row_off, self.cols - window.col_off)


def _row_south_of_equator(grid: ZoneGrid, equator_m: float) -> int:
    """Return the row just south of the equator."""
    return int(np.floor(-(equator_m - grid.size * 1e-6) / grid.size))


def _overlapping_stretches(
    one: tuple[Numbers, Numbers, NDArray[np.float64]],
    other: tuple[Numbers, Numbers, NDArray[np.float64]],
) -> tuple[Numbers, Numbers]:
    """Return the pairs of stretches of two divisions of a border that share more than a point."""
    if not len(one[0]) or not len(other[0]):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    cuts = np.unique(np.concatenate([one[2], other[2]]))
    middle = (cuts[:-1] + cuts[1:]) / 2
    inside = cuts[1:] - cuts[:-1] > 1e-12
    for _, _, along in (one, other):
        inside &= (middle < along[0]) & (middle > along[-1])
    middle = middle[inside]
    first, second = (np.searchsorted(-along, -middle) - 1 for _, _, along in (one, other))
    return first, second


def _touching_patches(one: _Side, other: _Side, known: dict[Zone, dict[int, int]]) -> _Pair:
    """Return the patches that face each other across a border; add their sizes to ``known``."""
    (ones, one_sizes), (others, other_sizes) = one.patches_along(), other.patches_along()
    met = (ones >= 0) & (others >= 0)
    for side, first, sizes in ((one, ones, one_sizes), (other, others, other_sizes)):
        known[side.zone].update(zip(first[met].tolist(), sizes[met].tolist(), strict=True))
    return one.zone, other.zone, ones[met], others[met]


def _number_patches(
    zones: Mapping[Zone, tuple[ZoneGrid, Window, Patches]],
    pairs: list[_Pair],
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
    """Return ids, unique over all zones, of pixels ``row * cols + col`` of a zone's mask."""
    return grid.ids(first // window.width + window.row_off, first % window.width + window.col_off)
