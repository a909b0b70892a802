"""UTM zones: the ground of each zone, and its grid of pixels.

A zone owns the ground between its two meridians, on one side of the equator. Its pixels are
numbered from the origin of its coordinates: column ``x / size``, row ``-y / size``. So a pixel has
the same number in every map.
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

# Chords of a meridian: those of the two zones differ by 0.2 mm at most.
_CHORD_DEGREES = 0.001
_FALSE_NORTHING_M = 10_000_000.0
_REACH_M = 1_000_000


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
        return _FALSE_NORTHING_M if self.south else 0.0

    @cached_property
    def _to_lonlat(self) -> pyproj.Transformer:
        return pyproj.Transformer.from_crs(self.epsg, 4326, always_xy=True)

    def latitudes(self, northings: Floats, eastings: Floats) -> Floats:
        """Compute the latitude of points, degrees."""
        latitudes: Floats = self._to_lonlat.transform(eastings, northings)[1]
        return latitudes

    def longitudes(self, northings: Floats, eastings: Floats) -> Floats:
        """Compute the longitude of points, degrees."""
        longitudes: Floats = self._to_lonlat.transform(eastings, northings)[0]
        return longitudes

    def meridian(self, *, eastern: bool, bottom: float, top: float) -> Floats:
        """Return one of its meridians as a line, from south to north, past both northings.

        Its points are the same places on the ground as those of the neighbouring zone.

        Returns
        -------
        numpy.ndarray
            ``(n, 2)``: easting and northing, m.
        """
        longitude = -180.0 + 6.0 * (self.number - 1 + eastern)
        centre = 500_000.0
        ends = self.latitudes(np.array([bottom, top]), np.array([centre, centre]))
        # Off the central meridian a parallel bends away from the equator, by up to 2 km.
        low = math.floor((ends.min() - 0.05) / _CHORD_DEGREES)
        high = math.ceil((ends.max() + 0.05) / _CHORD_DEGREES)
        latitudes = np.arange(low, high + 1) * _CHORD_DEGREES
        x, y = self._to_lonlat.transform(
            np.full(len(latitudes), longitude), latitudes, direction="INVERSE"
        )
        return np.column_stack([x, y])

    def territory(self, bottom: float, top: float, *, overlap_m: float = 0.0) -> shapely.Polygon:
        """Return the outline of its ground between two northings.

        Parameters
        ----------
        bottom, top
            Northings, m.
        overlap_m
            Distance that the outline extends beyond the zone's meridians, m.
        """
        west = self.meridian(eastern=False, bottom=bottom, top=top)
        east = self.meridian(eastern=True, bottom=bottom, top=top)
        west[:, 0] -= overlap_m
        east[:, 0] += overlap_m
        outline = shapely.Polygon(np.concatenate([west, east[::-1]]))
        bottom, top = self.clipped(bottom - overlap_m, top + overlap_m)
        return shapely.intersection(outline, shapely.box(0, bottom, _REACH_M, top))

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
        return math.ceil((_FALSE_NORTHING_M + TILE_M) / self.size)

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
        top = -window.row_off * self.size
        edges = np.float64(top) - np.arange(window.height + 1) * np.float64(self.size)
        bottom = float(edges[-1])
        left = (window.col_off + np.arange(window.width)) * np.float64(self.size)
        low, high = self.zone.clipped(bottom, top)
        vertical = (np.clip(edges[:-1], low, high) - np.clip(edges[1:], low, high)) / self.size
        shares = np.broadcast_to(vertical[:, None], window.shape)
        whole = bool((vertical == 1).all())
        centres = (edges[:-1] + edges[1:]) / 2
        for eastern in (False, True):
            line = self.zone.meridian(eastern=eastern, bottom=bottom, top=top)
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
        return None if whole else np.asarray(shares)

    def owns_any(self, window: Window) -> bool:
        """Check whether any part of a window is ground of the zone."""
        bottom, top = (-row * self.size for row in (window.row_off + window.height, window.row_off))
        left, right = (col * self.size for col in (window.col_off, window.col_off + window.width))
        low, high = self.zone.clipped(bottom, top)
        if low >= high:
            return False
        west = self.zone.meridian(eastern=False, bottom=bottom, top=top)
        east = self.zone.meridian(eastern=True, bottom=bottom, top=top)
        return bool(left < east[:, 0].max() and right > west[:, 0].min())

    def border(self, *, eastern: bool, window: Window) -> tuple[Numbers, Numbers, Floats]:
        """Find the pixels along a meridian, and the latitude where each begins.

        Parameters
        ----------
        eastern
            Whether it is the eastern meridian, or the western one.
        window
            Rows and columns to look at.

        Returns
        -------
        rows, cols
            Pixel of each piece of the meridian, from north to south; pixels beside the window
            are included.
        latitudes
            ``(n + 1,)``: where each piece begins, and the last one ends; degrees.
        """
        top = -window.row_off * self.size
        edges = top - np.arange(window.height + 1) * self.size
        line = self.zone.meridian(eastern=eastern, bottom=edges[-1], top=top)
        low, high = self.zone.clipped(edges[-1], top)
        x, y = line.T
        turns = [edges]
        col = x / self.size
        for step in np.unique(np.concatenate([np.floor(col), np.ceil(col)])):
            crossing = np.flatnonzero((col[:-1] - step) * (col[1:] - step) < 0)
            part = (step - col[crossing]) / (col[crossing + 1] - col[crossing])
            turns.append(y[crossing] + part * (y[crossing + 1] - y[crossing]))
        cuts = np.unique(np.clip(np.concatenate(turns), low, high))[::-1]
        middle = (cuts[:-1] + cuts[1:]) / 2
        cols = np.floor(np.interp(middle, y, x) / self.size).astype(np.int64)
        rows = np.floor(-middle / self.size).astype(np.int64)
        return rows, cols, self.zone.latitudes(cuts, np.interp(cuts, y, x))

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
