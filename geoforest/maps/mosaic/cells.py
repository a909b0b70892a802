"""Sums of pixels over cells of equal area, and the forest fraction computed from them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
import pyproj
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from geoforest._version import __version__
from geoforest.arrays.georef import GeoRef
from geoforest.arrays.grid import Window
from geoforest.arrays.zones import ZoneGrid, common, hull
from geoforest.io.cog import PercentWriter
from geoforest.io.publication import new_file
from geoforest.io.raster import open_raster
from geoforest.types import NO_OBSERVATION, Mask

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

CRS_CODE: Final = 6933
"""EASE-Grid 2.0: cylindrical, equal-area, WGS 84."""
CELLS_NAME: Final = "cells.tif"

_CELL_M = 100.0
# A cell needs enough pixels for a fraction.
_CELL_PX = 10
# Over 1.5 km lines of an equal-area grid are straight in UTM to within a centimetre.
_NODE_PX = 64
_BLOCK_CELLS = 512

Floats = NDArray[np.float64]


def cell_size_m(grid: ZoneGrid) -> float:
    """Return the side of a cell: 100 m, or ten pixels when pixels are larger than 10 m."""
    return max(_CELL_M, _CELL_PX * grid.size)


class CellSums:
    """Forest and observed pixels of a tile per cell; a pixel belongs to the cell of its centre.

    Parameters
    ----------
    grid, window
        Grid of the zone, and the pixels of the tile in it.
    """

    def __init__(self, grid: ZoneGrid, window: Window) -> None:
        self._grid, self._window = grid, window
        self._cell_m = cell_size_m(grid)
        self._move = pyproj.Transformer.from_crs(grid.zone.epsg, CRS_CODE, always_xy=True)
        self.cells = self._around(window)
        self.sums = np.zeros((2, *self.cells.shape), np.float32)

    def add(self, window: Window, mask: Mask, shares: Floats | None) -> None:
        """Add pixels of a window, each weighted by its share inside the zone."""
        from geoforest.arrays.kernels.pixels import add_to_cells

        rows = np.arange(0, window.height + _NODE_PX, _NODE_PX)
        cols = np.arange(0, window.width + _NODE_PX, _NODE_PX)
        at_cols, at_rows = np.meshgrid(cols + 0.5, rows + 0.5)
        x, y = self._grid.transform(window) @ (at_cols, at_rows)
        x, y = self._move.transform(x, y)
        col, row = x / self._cell_m - self.cells.col_off, -y / self._cell_m - self.cells.row_off
        weights = np.zeros((0, 0)) if shares is None else shares
        add_to_cells(mask, weights, row, col, _NODE_PX, self.sums)

    def write(self, path: Path) -> None:
        """Write both sums as bands of a raster: forest pixels, observed pixels."""
        with MemoryFile() as memory:
            with memory.open(
                driver="GTiff",
                height=self.cells.height,
                width=self.cells.width,
                count=2,
                dtype="float32",
                crs=f"EPSG:{CRS_CODE}",
                transform=_transform(self.cells, self._cell_m),
                tiled=True,
                compress="deflate",
            ) as target:
                target.write(self.sums)
                target.descriptions = ("forest pixels", "observed pixels")
            # By Python, because GDAL does not report each failure of a disk.
            path.write_bytes(memory.read())

    def _around(self, window: Window) -> Window:
        """Return the cells that cover a window."""
        at = self._grid.transform(window)
        corners = at @ (0, window.height), at @ (window.width, 0)
        outline = shapely.segmentize(shapely.box(*corners[0], *corners[1]), 5_000)
        x, y = self._move.transform(*shapely.get_coordinates(outline).T)
        left, right = math.floor(min(x) / self._cell_m), math.ceil(max(x) / self._cell_m)
        top, bottom = math.floor(-max(y) / self._cell_m), math.ceil(-min(y) / self._cell_m)
        # Allow for curvature between the points that were projected.
        return Window(top - 1, left - 1, bottom - top + 2, right - left + 2)


def write_fraction(path: Path, sums: Iterable[Path]) -> None:
    """Write the percentage of observed ground under forest.

    Parameters
    ----------
    path
        COG to write: uint8, 0 to 100, 255 where nothing was observed.
    sums
        Files that :meth:`CellSums.write` wrote, one per tile.
    """
    tiles: dict[Path, Window] = {}
    cell_m = _CELL_M
    for tile in sums:
        with open_raster(tile) as source:
            t, cell_m = source.transform, source.transform.a
            tiles[tile] = Window(round(-t.f / t.a), round(t.c / t.a), *source.shape)
    whole = hull(list(tiles.values()))
    tags = {"GEOFOREST_PRODUCT": "forest_fraction", "TIFFTAG_SOFTWARE": f"geoforest {__version__}"}
    with (
        new_file(path) as made,
        PercentWriter(
            made,
            georef=GeoRef(whole.shape, _transform(whole, cell_m), rasterio.CRS.from_epsg(CRS_CODE)),
            tags=tags,
        ) as writer,
    ):
        for row in range(0, whole.height, _BLOCK_CELLS):
            for col in range(0, whole.width, _BLOCK_CELLS):
                height = min(_BLOCK_CELLS, whole.height - row)
                width = min(_BLOCK_CELLS, whole.width - col)
                block = Window(whole.row_off + row, whole.col_off + col, height, width)
                writer.write(Window(row, col, height, width), _percent(tiles, block))
        writer.finish()


def _percent(tiles: dict[Path, Window], block: Window) -> NDArray[np.uint8]:
    total = np.zeros((2, *block.shape))
    for path, cells in tiles.items():
        both = common(cells, block)
        if both is None:
            continue
        with open_raster(path) as source:
            own = Window(
                both.row_off - cells.row_off, both.col_off - cells.col_off, both.height, both.width
            )
            values = source.read(window=own.slices)
        row, col = both.row_off - block.row_off, both.col_off - block.col_off
        total[:, row : row + both.height, col : col + both.width] += values
    forest, observed = total
    share = np.divide(forest, observed, out=np.zeros(block.shape), where=observed > 0)
    return np.where(observed > 0, np.rint(100 * share), NO_OBSERVATION).astype(np.uint8)


def _transform(cells: Window, cell_m: float) -> Affine:
    return Affine(cell_m, 0, cells.col_off * cell_m, 0, -cell_m, -cells.row_off * cell_m)
