"""UTM zones: the ground of each zone, and its grid of pixels.

A zone owns the ground between its two meridians, on one side of the equator; around Norway and
Svalbard its meridians are those of the military grid (MGRS), and change at some parallels. Its
pixels are numbered from the origin of its coordinates: column ``x / size``, row ``-y / size``. So a
pixel has the same number in every map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyproj
import shapely
from affine import Affine
from numpy.typing import NDArray

from geoforest.arrays.grid import Window

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

TILE_M: Final = 100_000
"""Side of a tile: a 100 km square of the military grid (MGRS), m."""

FALSE_NORTHING_M: Final = 10_000_000.0
"""Northing of the equator in zones of the southern hemisphere, m."""

# Chords of a meridian: those of the two zones differ by 0.2 mm at most.
_CHORD_DEGREES = 0.001
_REACH_M = 1_000_000
# Off the central meridian a parallel bends away from the equator: by 2 km, 16 km in wide zones.
_BEND_DEGREES, _WIDE_BEND_DEGREES = 0.05, 0.2


@dataclass(frozen=True)
class Band:
    """Ground between two parallels and two meridians, degrees."""

    south: float
    north: float
    west: float
    east: float


# Northern zones whose meridians are not 6 degrees apart everywhere: 32V is wide and 31V narrow;
# 31X, 33X, 35X and 37X are wide, and 32X, 34X and 36X do not exist.
_UNEVEN: Final = {
    31: (Band(0, 56, 0, 6), Band(56, 64, 0, 3), Band(64, 72, 0, 6), Band(72, 90, 0, 9)),
    32: (Band(0, 56, 6, 12), Band(56, 64, 3, 12), Band(64, 72, 6, 12)),
    33: (Band(0, 72, 12, 18), Band(72, 90, 9, 21)),
    34: (Band(0, 72, 18, 24),),
    35: (Band(0, 72, 24, 30), Band(72, 90, 21, 33)),
    36: (Band(0, 72, 30, 36),),
    37: (Band(0, 72, 36, 42), Band(72, 90, 33, 42)),
}


@dataclass(frozen=True)
class Border:
    """Line on the ground between two zones: part of a meridian, or of a parallel.

    Attributes
    ----------
    at
        Longitude of the meridian, or latitude of the parallel, degrees.
    start, end
        Latitudes of its ends, or longitudes on a parallel, degrees, ascending.
    is_meridian
        Whether it is part of a meridian.
    """

    at: float
    start: float
    end: float
    is_meridian: bool

    def points(self, low: float, high: float) -> tuple[Floats, Floats, Floats]:
        """Return longitudes and latitudes along it, and the one of both that changes.

        The points are the same for all callers but for those left out, and run from north to
        south, or from east to west.

        Parameters
        ----------
        low, high
            Part of it that is wanted, degrees.
        """
        first = math.floor(max(low, self.start) / _CHORD_DEGREES + 1e-6)
        last = math.ceil(min(high, self.end) / _CHORD_DEGREES - 1e-6)
        along: Floats = np.arange(last, first - 1, -1, dtype=np.float64) * _CHORD_DEGREES
        same: Floats = np.full(len(along), self.at, np.float64)
        return (same, along, along) if self.is_meridian else (along, same, along)


@dataclass(frozen=True, order=True)
class Zone:
    """One of the 120 halves of UTM zones, north or south of the equator.

    Attributes
    ----------
    number
        1 to 60.
    south
        Whether it lies south of the equator.
    """

    number: int
    south: bool

    @classmethod
    def of(cls, crs: Any) -> Zone | None:
        """Return the zone of a UTM CRS of WGS 84; None for any other CRS."""
        epsg = crs.to_epsg()
        if epsg is None or not (32601 <= epsg <= 32660 or 32701 <= epsg <= 32760):
            return None
        return cls(epsg % 100, epsg >= 32700)

    @property
    def epsg(self) -> int:
        """EPSG code of its CRS."""
        return (32700 if self.south else 32600) + self.number

    @property
    def name(self) -> str:
        """Name, such as ``20S``."""
        return f"{self.number:02d}{'S' if self.south else 'N'}"

    @property
    def code(self) -> int:
        """Number of the half zone, 1 to 120."""
        return self.number + 60 * self.south

    @property
    def east(self) -> Zone:
        """Zone beyond its eastern meridian."""
        return Zone(self.number % 60 + 1, self.south)

    @property
    def across(self) -> Zone:
        """Zone beyond the equator."""
        return Zone(self.number, not self.south)

    @property
    def equator_m(self) -> float:
        """Northing of the equator, m."""
        return FALSE_NORTHING_M if self.south else 0.0

    @property
    def bands(self) -> tuple[Band, ...]:
        """Its ground, from south to north."""
        west = -180.0 + 6.0 * (self.number - 1)
        if self.south:
            return (Band(-90, 0, west, west + 6),)
        return _UNEVEN.get(self.number, (Band(0, 90, west, west + 6),))

    @property
    def is_uneven(self) -> bool:
        """Whether its ground is not all between two meridians, up to the pole."""
        return not self.south and self.number in _UNEVEN

    def borders(self, other: Zone) -> list[Border]:
        """Return the lines that its ground shares with another zone, but for the equator."""
        found: list[Border] = []
        if self.south != other.south or self == other:
            return found
        for own in self.bands:
            for its in other.bands:
                low, high = max(own.south, its.south), min(own.north, its.north)
                for east, west in ((own, its), (its, own)):
                    if low < high and (east.east - west.west) % 360 == 0:
                        found.append(Border(east.east, low, high, is_meridian=True))
                low, high = max(own.west, its.west), min(own.east, its.east)
                for upper, lower in ((own, its), (its, own)):
                    if low < high and upper.south == lower.north:
                        found.append(Border(upper.south, low, high, is_meridian=False))
        return found

    @cached_property
    def to_lonlat(self) -> pyproj.Transformer:
        """Transformer from its coordinates, m, to longitude and latitude."""
        return pyproj.Transformer.from_crs(self.epsg, 4326, always_xy=True)

    def latitudes(self, northings: Floats, eastings: Floats) -> Floats:
        """Compute the latitude of points, degrees."""
        latitudes: Floats = self.to_lonlat.transform(eastings, northings)[1]
        return latitudes

    def longitudes(self, northings: Floats, eastings: Floats) -> Floats:
        """Compute the longitude of points, degrees."""
        longitudes: Floats = self.to_lonlat.transform(eastings, northings)[0]
        return longitudes

    def meridian(self, *, eastern: bool, bottom: float, top: float) -> Floats:
        """Return one of its meridians as a line, from south to north, past both northings.

        Its points are the same places on the ground as those of the neighbouring zone. Around
        Norway and Svalbard it is the one that holds from the equator to 56 or 72 degrees.

        Returns
        -------
        numpy.ndarray
            ``(n, 2)``: easting and northing, m.
        """
        band = self.bands[0]
        low, high = self.latitude_range(bottom, top)
        return self.meridian_at(band.east if eastern else band.west, low, high)

    def latitude_range(self, bottom: float, top: float) -> tuple[float, float]:
        """Return latitudes, degrees, between which all ground between two northings lies."""
        ends = self.latitudes(np.array([bottom, top]), np.array([500_000.0, 500_000.0]))
        bend = _WIDE_BEND_DEGREES if self.is_uneven else _BEND_DEGREES
        return float(ends.min()) - bend, float(ends.max()) + bend

    def meridian_at(self, longitude: float, low: float, high: float) -> Floats:
        """Return a meridian between two latitudes, from south to north, ``(n, 2)``, m."""
        first = math.floor(low / _CHORD_DEGREES + 1e-6)
        last = math.ceil(high / _CHORD_DEGREES - 1e-6)
        latitudes: Floats = np.arange(first, last + 1, dtype=np.float64) * _CHORD_DEGREES
        return self._placed(np.full(len(latitudes), longitude), latitudes)

    def parallel_at(self, latitude: float, west: float, east: float) -> Floats:
        """Return a parallel between two meridians, from west to east, ``(n, 2)``, m."""
        first, last = round(west / _CHORD_DEGREES), round(east / _CHORD_DEGREES)
        longitudes: Floats = np.arange(first, last + 1, dtype=np.float64) * _CHORD_DEGREES
        return self._placed(longitudes, np.full(len(longitudes), latitude))

    def _placed(self, longitudes: Floats, latitudes: Floats) -> Floats:
        x, y = self.to_lonlat.transform(longitudes, latitudes, direction="INVERSE")
        return np.column_stack([x, y])

    def bands_between(self, bottom: float, top: float) -> tuple[Band, ...]:
        """Return the bands that may have ground between two northings, m."""
        if not self.is_uneven:
            return self.bands
        low, high = self.latitude_range(bottom, top)
        return tuple(band for band in self.bands if band.south < high and band.north > low)

    def territory(self, bottom: float, top: float, *, overlap_m: float = 0.0) -> shapely.Geometry:
        """Return the outline of its ground between two northings.

        Parameters
        ----------
        bottom, top
            Northings, m.
        overlap_m
            Distance that the outline extends beyond the zone's meridians, m.
        """
        low, high = self.latitude_range(bottom, top)
        outlines = [self._outline(band, low, high) for band in self.bands_between(bottom, top)]
        outline = shapely.union_all(outlines)
        if overlap_m:
            outline = shapely.buffer(outline, overlap_m, join_style="mitre")
        bottom, top = self.clipped(bottom - overlap_m, top + overlap_m)
        return shapely.intersection(outline, shapely.box(0, bottom, _REACH_M, top))

    def _outline(self, band: Band, low: float, high: float) -> shapely.Polygon:
        """Return the outline of a band between two latitudes, past them where it goes on."""
        begins = self.is_uneven and 0 < band.south > low
        ends = self.is_uneven and band.north < min(high, 90)
        south, north = (band.south if begins else low), (band.north if ends else high)
        sides = [self.meridian_at(band.west, south, north)]
        if ends:
            sides.append(self.parallel_at(band.north, band.west, band.east))
        sides.append(self.meridian_at(band.east, south, north)[::-1])
        if begins:
            sides.append(self.parallel_at(band.south, band.west, band.east)[::-1])
        return shapely.Polygon(np.concatenate(sides))

    def clipped(self, bottom: float, top: float) -> tuple[float, float]:
        """Clip two northings, m, to its own side of the equator."""
        if self.south:
            return bottom, min(top, self.equator_m)
        return max(bottom, self.equator_m), top


@dataclass(frozen=True)
class ZoneGrid:
    """Grid of pixels of a zone, shared by all maps in it.

    Attributes
    ----------
    zone
        The zone.
    size
        Side of a pixel, m.
    """

    zone: Zone
    size: float

    @property
    def n_cols(self) -> int:
        """Number of columns, more than any zone needs."""
        return math.ceil(_REACH_M / self.size)

    @property
    def n_rows(self) -> int:
        """Number of rows, more than any zone needs."""
        return math.ceil((FALSE_NORTHING_M + TILE_M) / self.size)

    def transform(self, window: Window) -> Affine:
        """Return the transform of a window, to coordinates of the zone."""
        return Affine(
            self.size, 0, window.col_off * self.size, 0, -self.size, -window.row_off * self.size
        )

    def tile(self, across: int, up: int) -> Window:
        """Return the pixels of a tile, by its number east and north of the origin.

        Each side lies on the first pixel edge at or after a multiple of 100 km.
        """
        left, right = (math.ceil(n * TILE_M / self.size - 1e-6) for n in (across, across + 1))
        top, bottom = (-math.ceil(n * TILE_M / self.size - 1e-6) for n in (up + 1, up))
        return Window(top, left, bottom - top, right - left)

    def tiles(self, window: Window) -> list[tuple[int, int]]:
        """List the tiles ``(across, up)`` that a window touches."""
        low, high = -(window.row_off + window.height) * self.size, -window.row_off * self.size
        left, right = (window.col_off + side for side in (0, window.width))
        ups = range(math.floor(low / TILE_M) - 1, math.ceil(high / TILE_M) + 1)
        acrosses = range(
            math.floor(left * self.size / TILE_M) - 1, math.ceil(right * self.size / TILE_M) + 1
        )
        return [
            (across, up)
            for up in ups
            for across in acrosses
            if common(self.tile(across, up), window) is not None
        ]

    def shares(self, window: Window) -> Floats | None:
        """Compute the share of each pixel of a window inside the zone; None when all are inside.

        Returns
        -------
        numpy.ndarray or None
            ``(row, col)``, 0 to 1.
        """
        edges = np.float64(-window.row_off * self.size) - (
            np.arange(window.height + 1) * np.float64(self.size)
        )
        left = (window.col_off + np.arange(window.width)) * np.float64(self.size)
        bands = self.zone.bands_between(float(edges[-1]), float(edges[0]))
        if len(bands) == 1:
            return self._shares_of(bands[0], edges, left)
        total = np.zeros(window.shape)
        for band in bands:
            shares = self._shares_of(band, edges, left)
            if shares is None:
                return None
            total += shares
        # Pixels that a parallel crosses inside the zone are whole.
        total[total > 1 - 1e-8] = 1.0
        return None if (total == 1).all() else total

    def _shares_of(self, band: Band, edges: Floats, left: Floats) -> Floats | None:
        """Compute the share of pixels inside a band; None when all are inside."""
        bottom, top = float(edges[-1]), float(edges[0])
        low, high = self.zone.clipped(bottom, top)
        vertical = (np.clip(edges[:-1], low, high) - np.clip(edges[1:], low, high)) / self.size
        shares = np.broadcast_to(vertical[:, None], (len(edges) - 1, len(left)))
        whole = bool((vertical == 1).all())
        centres = (edges[:-1] + edges[1:]) / 2
        for longitude, eastern in ((band.west, False), (band.east, True)):
            line = self.zone.meridian_at(longitude, *self.zone.latitude_range(bottom, top))
            x = np.interp(centres, line[:, 1], line[:, 0])[:, None]
            if eastern and left[-1] + self.size < line[:, 0].min():
                continue
            if not eastern and left[0] > line[:, 0].max():
                continue
            inside = (x - left) / self.size if eastern else (left + self.size - x) / self.size
            inside = np.clip(inside, 0, 1)
            # Within one row the meridian may cross into another column.
            beside = _touched(line, edges, left, self.size, eastern=eastern)
            shares = shares * np.where(beside, np.maximum(inside, 1e-9), inside)
            whole = whole and bool((inside == 1).all())
        if self.zone.is_uneven:
            for latitude, northern in ((band.south, False), (band.north, True)):
                part = self._beside_parallel(latitude, band, edges, left, northern=northern)
                if part is not None:
                    shares, whole = shares * part, False
        return None if whole else np.asarray(shares)

    def _beside_parallel(
        self, latitude: float, band: Band, edges: Floats, left: Floats, *, northern: bool
    ) -> Floats | None:
        """Compute the share of pixels on the band's side of a parallel; None when all are."""
        low, high = self.zone.latitude_range(float(edges[-1]), float(edges[0]))
        if not 0 < latitude < 90 or not low < latitude < high:
            return None
        line = self.zone.parallel_at(latitude, band.west, band.east)
        sides = np.append(left, left[-1] + self.size)
        y = np.interp(sides, line[:, 0], line[:, 1])
        middle = np.interp(left + self.size / 2, line[:, 0], line[:, 1])
        upper, lower = edges[:-1, None], edges[1:, None]
        if northern:
            inside, beside = middle - lower, np.maximum(y[:-1], y[1:]) > lower
        else:
            inside, beside = upper - middle, np.minimum(y[:-1], y[1:]) < upper
        inside = np.clip(inside / self.size, 0, 1)
        return np.where(beside, np.maximum(inside, 1e-9), inside)

    def owns_any(self, window: Window) -> bool:
        """Check whether any part of a window is ground of the zone."""
        bottom, top = (-row * self.size for row in (window.row_off + window.height, window.row_off))
        left, right = (col * self.size for col in (window.col_off, window.col_off + window.width))
        low, high = self.zone.clipped(bottom, top)
        if low >= high:
            return False
        if self.zone.is_uneven:
            ground = self.zone.territory(bottom, top)
            return bool(shapely.intersection(ground, shapely.box(left, low, right, high)).area > 0)
        west = self.zone.meridian(eastern=False, bottom=bottom, top=top)
        east = self.zone.meridian(eastern=True, bottom=bottom, top=top)
        return bool(left < east[:, 0].max() and right > west[:, 0].min())

    def pixels_along(self, border: Border, window: Window) -> tuple[Numbers, Numbers, Floats]:
        """Find the pixels along a border of the zone, and where on it each begins.

        Parameters
        ----------
        border
            See :meth:`Zone.borders`.
        window
            Rows and columns to look at.

        Returns
        -------
        rows, cols
            Pixel of each piece of the line, from north to south, or from east to west; pixels
            beside the window are included.
        along
            ``(n + 1,)``: latitude, or longitude on a parallel, where each piece begins, and the
            last one ends; degrees, descending.
        """
        nothing = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
        low, high = self._range_along(border, window)
        if max(low, border.start) >= min(high, border.end):
            return nothing
        longitudes, latitudes, along = border.points(low, high)
        x, y = self.zone.to_lonlat.transform(longitudes, latitudes, direction="INVERSE")
        col, row = np.asarray(x) / self.size, -np.asarray(y) / self.size
        turns = [along[[0, -1]]]
        for edge in (row, col):
            segment, part = _crossings(edge)
            turns.append(along[segment] + part * (along[segment + 1] - along[segment]))
        cuts = np.unique(np.concatenate(turns))[::-1]
        middle = (cuts[:-1] + cuts[1:]) / 2
        rows = np.floor(np.interp(-middle, -along, row)).astype(np.int64)
        cols = np.floor(np.interp(-middle, -along, col)).astype(np.int64)
        inside = np.flatnonzero((rows >= window.row_off) & (rows < window.row_off + window.height))
        if not len(inside):
            return nothing
        chosen = slice(inside[0], inside[-1] + 1)
        return rows[chosen], cols[chosen], cuts[inside[0] : inside[-1] + 2]

    def _range_along(self, border: Border, window: Window) -> tuple[float, float]:
        """Return the part of a border near a window, degrees."""
        bottom, top = (-row * self.size for row in (window.row_off + window.height, window.row_off))
        if border.is_meridian:
            return self.zone.latitude_range(bottom, top)
        sides = np.array([window.col_off, window.col_off + window.width] * 2) * self.size
        found = self.zone.longitudes(np.array([bottom, bottom, top, top]), sides)
        return float(found.min()) - _WIDE_BEND_DEGREES, float(found.max()) + _WIDE_BEND_DEGREES

    def ids(self, rows: Numbers, cols: Numbers) -> Numbers:
        """Assign numbers to pixels; no two zones share a number."""
        numbers: Numbers = (self.zone.code * self.n_rows + rows + self.n_rows) * self.n_cols + cols
        return numbers


def common(one: Window, other: Window) -> Window | None:
    """Return the window that two windows share; None where there is none."""
    top, left = max(one.row_off, other.row_off), max(one.col_off, other.col_off)
    bottom = min(one.row_off + one.height, other.row_off + other.height)
    right = min(one.col_off + one.width, other.col_off + other.width)
    if top >= bottom or left >= right:
        return None
    return Window(top, left, bottom - top, right - left)


def hull(windows: list[Window]) -> Window:
    """Return the smallest window around all windows."""
    top = min(window.row_off for window in windows)
    left = min(window.col_off for window in windows)
    bottom = max(window.row_off + window.height for window in windows)
    right = max(window.col_off + window.width for window in windows)
    return Window(top, left, bottom - top, right - left)


def _touched(
    line: Floats, edges: Floats, left: Floats, size: float, *, eastern: bool
) -> NDArray[np.bool_]:
    """Find pixels that lie at least in part on the zone's side of a meridian."""
    x = np.interp(edges, line[::, 1], line[:, 0])
    if eastern:
        far = np.maximum(x[:-1], x[1:])[:, None]
        return np.asarray(left < far)
    far = np.minimum(x[:-1], x[1:])[:, None]
    return np.asarray(left + size > far)


def _crossings(values: Floats) -> tuple[Numbers, Floats]:
    """Return segments of a line that cross whole numbers, and how far along each does."""
    low, high = np.minimum(values[:-1], values[1:]), np.maximum(values[:-1], values[1:])
    first = np.ceil(low)
    counts = np.maximum(np.floor(high) - first + 1, 0).astype(np.int64)
    counts[low == high] = 0
    segment = np.repeat(np.arange(len(counts)), counts)
    before = np.cumsum(counts) - counts
    whole = first[segment] + (np.arange(len(segment)) - before[segment])
    return segment, (whole - values[segment]) / (values[segment + 1] - values[segment])
