"""True ground area and length of pixels, on the ellipsoid, for any CRS.

The CRS is inverted to longitude and latitude at a coarse lattice of nodes. The Jacobian of that
inversion, times the ellipsoid's radii of curvature, gives metres on the ground (Snyder 1987,
Map Projections: A Working Manual, USGS Professional Paper 1395, equations 4-18 to 4-20). Values
between nodes are interpolated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyproj
from numpy.typing import NDArray

from geoforest.errors import InputError

if TYPE_CHECKING:
    from geoforest.arrays.georef import GeoRef
    from geoforest.types import Shape, StoredProbability

_NODE_STEP_PX = 256
# In UTM, interpolation over 5 km is accurate to a few parts in ten million.
_NODE_STEP_M = 5_000.0

_MOST_NODES = 4_000_000

_UNITS_PER_PIXEL = 1e8
_LENGTH_UNIT_M = 1e-6

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over the pixels of each label, ``(n_labels,)``; see :meth:`PixelTable.sums`.

    Attributes
    ----------
    pixels
        Number of pixels, int64.
    area
        True ground area, m2.
    stored
        Sum of the stored probability; 0 without one.
    first
        First pixel, ``row * cols + col`` within the array; -1 where the label is absent.
    """

    pixels: NDArray[np.int64]
    area: Floats
    stored: Floats
    first: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PixelTable:
    """Ground area, width and height of the pixels of a grid.

    Attributes
    ----------
    rows, cols
        Node positions in pixels, 0 at the outer edge of the first pixel.
    area, width, height
        ``(len(rows), len(cols))``: m2, m and m of a pixel centred at each node.
    """

    rows: Floats
    cols: Floats
    area: Floats
    width: Floats
    height: Floats

    @classmethod
    def flat(cls, shape: Shape) -> PixelTable:
        """Build the table of a grid without a CRS: units are pixels and pixel sides."""
        rows, cols = np.array([0.0, shape[0]]), np.array([0.0, shape[1]])
        return cls(rows, cols, *(np.ones((2, 2)) for _ in range(3)))

    @classmethod
    def build(cls, georef: GeoRef) -> PixelTable:
        """Compute the table of a grid.

        Raises
        ------
        InputError
            When the grid leaves the domain of its CRS, or when the CRS has no ellipsoid.
        """
        shape, to_ground = georef.shape, _Ground(georef)
        centre = np.array([shape[0] / 2]), np.array([shape[1] / 2])
        _, width, height = to_ground(*np.meshgrid(*centre, indexing="ij"))
        step = _NODE_STEP_M / max(float(width[0, 0]), float(height[0, 0]))
        step = min(max(step, 1.0), _NODE_STEP_PX)
        # Nodes of a raster of the whole earth lie farther apart, or they would take gigabytes.
        step = max(step, math.sqrt(shape[0] * shape[1] / _MOST_NODES))
        rows, cols = (np.linspace(0, side, max(2, math.ceil(side / step) + 1)) for side in shape)
        area, width, height = to_ground(*np.meshgrid(rows, cols, indexing="ij"))
        return cls(rows, cols, area, width, height)

    def area_m2(self, rows: slice, cols: slice) -> Floats:
        """Compute the ground area of each pixel of a rectangle, ``(rows, cols)``, m2.

        The value of a pixel does not depend on the rectangle.
        """
        at_rows = np.arange(rows.start, rows.stop) + 0.5
        at_cols = np.arange(cols.start, cols.stop) + 0.5
        return self._lattice(self.area, at_rows, at_cols)

    def sums(
        self,
        labels: NDArray[np.integer],
        n_labels: int,
        *,
        at: tuple[int, int] = (0, 0),
        stored: StoredProbability | None = None,
    ) -> Sums:
        """Sum pixels by label.

        Parameters
        ----------
        labels
            ``(row, col)``, 0 to ``n_labels`` - 1.
        n_labels
            Length of the result.
        at
            Row and column of the first label in the grid.
        stored
            Stored probability, same shape as the labels.
        """
        from geoforest.arrays.kernels.pixels import sum_by_label

        rows = np.arange(labels.shape[0], dtype=np.float64) + (at[0] + 0.5)
        cols = np.arange(labels.shape[1], dtype=np.float64) + (at[1] + 0.5)
        node, share = _locate(self.rows, rows)
        lines = self.area[node] * (1 - share)[:, None] + self.area[node + 1] * share[:, None]
        values = np.empty((0, 0), np.uint8) if stored is None else stored
        return Sums(*sum_by_label(labels, n_labels, lines, *_locate(self.cols, cols), values))

    def pixel_area_m2(self) -> float:
        """Compute the ground area of the pixel at the centre of the grid, m2."""
        at = self._points(self.area, np.array([self.rows[-1] / 2]), np.array([self.cols[-1] / 2]))
        return float(at[0])

    def pixel_size_m(self) -> tuple[float, float]:
        """Compute height and width on the ground of the pixel at the centre of the grid, m."""
        centre = np.array([self.rows[-1] / 2]), np.array([self.cols[-1] / 2])
        height, width = (
            float(self._points(lengths, *centre)[0]) for lengths in (self.height, self.width)
        )
        return height, width

    def minimum_mapping_unit_px(self, min_area_ha: float) -> int:
        """Count the pixels that an area needs at least, by the pixel at the centre; 0 keeps all.

        Examples
        --------
        >>> from affine import Affine
        >>> from geoforest.arrays.georef import GeoRef
        >>> grid = GeoRef((100, 100), Affine(10, 0, 500_000, 0, -10, 8_900_000), "EPSG:32720")
        >>> PixelTable.build(grid).minimum_mapping_unit_px(0.5)
        50
        """
        # An exact ratio may be off in its last bits, and must not be rounded up.
        return math.ceil(round(min_area_ha * 1e4 / self.pixel_area_m2(), 9))

    @cached_property
    def area_unit_m2(self) -> float:
        """Unit of exact sums, m2: 1e-8 of a pixel. Sums stay below 2 ** 63."""
        return self.pixel_area_m2() / _UNITS_PER_PIXEL

    def run_areas(
        self,
        row_ends: NDArray[np.int64],
        start: NDArray[np.int32],
        end: NDArray[np.int32],
        first_row: int,
    ) -> NDArray[np.int64]:
        """Compute the ground area of runs of pixels, in whole :attr:`area_unit_m2`.

        Integers make sums exact and independent of their order.

        Parameters
        ----------
        row_ends
            ``(rows + 1,)``: first run of each row, and the number of runs.
        start, end
            ``(n_runs,)``: first column, and the column after the last.
        first_row
            Row of the grid of the first run.
        """
        from geoforest.arrays.kernels.ground import run_areas

        along = self.area, self._area_integral
        return run_areas(
            row_ends, start, end, first_row, *along, *self._node_px(), self.area_unit_m2
        )

    def perimeters(
        self,
        points: NDArray[np.int32],
        ring_ends: NDArray[np.int64],
        polygon_ends: NDArray[np.int64],
    ) -> Floats:
        """Compute the ground length of all rings of each polygon, m.

        Parameters
        ----------
        points
            ``(n, 2)``, (col, row) of pixel corners; every edge runs along a row or a column.
        ring_ends, polygon_ends
            See :class:`geoforest.arrays.polygons.tracing.Outlines`.
        """
        from geoforest.arrays.kernels.ground import polygon_lengths

        lengths = polygon_lengths(
            points,
            ring_ends,
            polygon_ends,
            self.width,
            self._width_integral,
            self._height_down,
            self._height_integral,
            *self._node_px(),
            _LENGTH_UNIT_M,
        )
        metres: Floats = lengths.astype(np.float64) * _LENGTH_UNIT_M
        return metres

    @cached_property
    def _area_integral(self) -> Floats:
        return _integrate(self.area)

    @cached_property
    def _width_integral(self) -> Floats:
        return _integrate(self.width)

    @cached_property
    def _height_down(self) -> Floats:
        return np.ascontiguousarray(self.height.T)

    @cached_property
    def _height_integral(self) -> Floats:
        return _integrate(self._height_down)

    def _node_px(self) -> tuple[float, float]:
        """Return the distance of nodes down and across, in pixels."""
        return self.rows[-1] / (len(self.rows) - 1), self.cols[-1] / (len(self.cols) - 1)

    def _lattice(self, table: Floats, rows: Floats, cols: Floats) -> Floats:
        row, down = _locate(self.rows, rows)
        col, right = _locate(self.cols, cols)
        lines = table[row] * (1 - down)[:, None] + table[row + 1] * down[:, None]
        return lines[:, col] * (1 - right) + lines[:, col + 1] * right

    def _points(self, table: Floats, rows: Floats, cols: Floats) -> Floats:
        row, down = _locate(self.rows, rows)
        col, right = _locate(self.cols, cols)
        upper = table[row, col] * (1 - right) + table[row, col + 1] * right
        lower = table[row + 1, col] * (1 - right) + table[row + 1, col + 1] * right
        return upper * (1 - down) + lower * down


class _Ground:
    """Function from pixel positions to ground area, width and height of a pixel there."""

    def __init__(self, georef: GeoRef) -> None:
        crs = pyproj.CRS.from_user_input(georef.crs)
        geodetic = crs.geodetic_crs
        if geodetic is None or crs.ellipsoid is None:
            raise InputError(f"CRS {crs.name!r}: one with an ellipsoid was wanted, for areas")
        self._transform = georef.transform
        self._name = crs.name
        self._to_lonlat = pyproj.Transformer.from_crs(crs, geodetic, always_xy=True)
        self._unit = geodetic.axis_info[0].unit_conversion_factor  # radians
        self._a = crs.ellipsoid.semi_major_metre
        inverse = crs.ellipsoid.inverse_flattening
        flattening = 1 / inverse if inverse else 0.0
        self._e2 = flattening * (2 - flattening)

    def __call__(self, rows: Floats, cols: Floats) -> tuple[Floats, Floats, Floats]:
        # A wide central difference: its error is (step / earth radius) squared.
        h = 1.0
        lon_right, lat_right = self._lonlat(rows, cols + h)
        lon_left, lat_left = self._lonlat(rows, cols - h)
        lon_down, lat_down = self._lonlat(rows + h, cols)
        lon_up, lat_up = self._lonlat(rows - h, cols)
        lat = (lat_right + lat_left) / 2
        curvature = 1 - self._e2 * np.sin(lat) ** 2
        parallel = self._a / np.sqrt(curvature) * np.cos(lat)
        meridian = self._a * (1 - self._e2) / curvature**1.5
        east_col = _wrapped(lon_right - lon_left) / (2 * h) * parallel
        north_col = (lat_right - lat_left) / (2 * h) * meridian
        east_row = _wrapped(lon_down - lon_up) / (2 * h) * parallel
        north_row = (lat_down - lat_up) / (2 * h) * meridian
        area = np.abs(east_col * north_row - east_row * north_col)
        return area, np.hypot(east_col, north_col), np.hypot(east_row, north_row)

    def _lonlat(self, rows: Floats, cols: Floats) -> tuple[Floats, Floats]:
        x = self._transform.c + self._transform.a * cols
        y = self._transform.f + self._transform.e * rows
        lon, lat = self._to_lonlat.transform(x, y)
        if not (np.isfinite(lon) & np.isfinite(lat)).all():
            raise InputError(
                f"grid at {self._transform!r}: it leaves the domain of its CRS {self._name!r}; one "
                "inside was wanted"
            )
        return lon * self._unit, lat * self._unit


def _integrate(values: Floats) -> Floats:
    """Integrate along the second axis up to each node, by trapezes, in steps of nodes."""
    before = np.zeros_like(values)
    before[:, 1:] = np.cumsum((values[:, 1:] + values[:, :-1]) / 2, axis=1)
    return before


def _wrapped(angle: Floats) -> Floats:
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _locate(nodes: Floats, at: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Return the node before each position, and the share of the way to the next node."""
    position = at * ((len(nodes) - 1) / nodes[-1])
    index = np.clip(position.astype(np.intp), 0, len(nodes) - 2)
    return index, position - index
