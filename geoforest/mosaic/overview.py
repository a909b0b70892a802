"""A first look at a mosaic: forest fraction in an equal-area CRS, and a generalised outline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyproj
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.warp import reproject

from geoforest import __version__
from geoforest.grid import Window
from geoforest.io.cog import PercentWriter, read_strips
from geoforest.io.geopackage import write_geopackage
from geoforest.io.raster import open_raster
from geoforest.mosaic.polygons import ZoneRasters
from geoforest.mosaic.zones import Zone, hull
from geoforest.polygons import PolygonStream
from geoforest.reproject import reprojected
from geoforest.types import FOREST, NO_OBSERVATION, OTHER

CRS_CODE: Final = 6933
"""EASE-Grid 2.0: cylindrical, equal-area, WGS 84."""
CELL_M: Final = 100.0
OVERVIEW_LAYER: Final = "forest_overview"

_BLOCK_CELLS = 512
# Half of a cell under forest makes it forest; a patch or clearing below a square km is no overview.
_MOST_PERCENT = 50
_MIN_AREA_HA = 100.0
_SIMPLIFY_CELLS = 2.0


def write_fraction(path: Path, zones: Mapping[Zone, ZoneRasters], cell_m: float = CELL_M) -> None:
    """Write percent of observed ground under forest, on cells of equal area.

    Parameters
    ----------
    path
        COG to write: uint8, 0 to 100, 255 where nothing was observed.
    zones
        Masks; a pixel counts with the share that belongs to its zone, so that none counts twice.
    cell_m
        Side of a cell, m.

    Notes
    -----
    Each cell sums the pixels that it touches by the part of each that lies inside (``sum``
    resampling of GDAL); a zone's part of it comes from that zone alone.
    """
    crs = rasterio.CRS.from_epsg(CRS_CODE)
    boxes = {zone: _footprint(rasters, cell_m) for zone, rasters in zones.items()}
    whole = hull(list(boxes.values()))
    transform = Affine(cell_m, 0, whole.col_off * cell_m, 0, -cell_m, -whole.row_off * cell_m)
    tags = {"GEOFOREST_PRODUCT": "forest_fraction", "TIFFTAG_SOFTWARE": f"geoforest {__version__}"}
    with PercentWriter(path, shape=whole.shape, crs=crs, transform=transform, tags=tags) as writer:
        for row in range(0, whole.height, _BLOCK_CELLS):
            for col in range(0, whole.width, _BLOCK_CELLS):
                cells = Window(
                    row,
                    col,
                    min(_BLOCK_CELLS, whole.height - row),
                    min(_BLOCK_CELLS, whole.width - col),
                )
                at = transform @ Affine.translation(col, row)
                writer.write(cells, _percent(zones, cells, at, crs))
        writer.finish()


def _footprint(rasters: ZoneRasters, cell_m: float) -> Window:
    """Cells around the rasters of a zone."""
    at = rasters.grid.transform(rasters.window)
    height, width = rasters.window.shape
    corners = [at @ (0, height), at @ (width, 0)]
    outline = shapely.segmentize(shapely.box(*corners[0], *corners[1]), 50_000)
    move = pyproj.Transformer.from_crs(rasters.grid.zone.epsg, CRS_CODE, always_xy=True)
    x, y = move.transform(*shapely.get_coordinates(outline).T)
    left, right = math.floor(min(x) / cell_m), math.ceil(max(x) / cell_m)
    top, bottom = math.floor(-max(y) / cell_m), math.ceil(-min(y) / cell_m)
    return Window(top, left, bottom - top, right - left)


def _percent(
    zones: Mapping[Zone, ZoneRasters], cells: Window, at: Affine, crs: Any
) -> NDArray[np.uint8]:
    forest, observed = np.zeros(cells.shape), np.zeros(cells.shape)
    left, top = at @ (0, 0)
    right, bottom = at @ (cells.width, cells.height)
    outline = shapely.segmentize(shapely.box(left, bottom, right, top), 5_000)
    for zone, rasters in zones.items():
        part = _part(outline, zone, rasters)
        if part is None:
            continue
        with open_raster(rasters.mask) as source:
            place = Window(
                part.row_off - rasters.window.row_off,
                part.col_off - rasters.window.col_off,
                *part.shape,
            )
            mask = source.read(1, window=place.slices)
        if (mask == NO_OBSERVATION).all():
            continue
        shares = rasters.grid.shares(part)
        weight = np.ones(part.shape, np.float32) if shares is None else shares.astype(np.float32)
        for code, sums in (((FOREST,), (forest, observed)), ((OTHER,), (observed,))):
            weights = np.where(mask == code[0], weight, 0).astype(np.float32)
            found = np.zeros(cells.shape, np.float32)
            reproject(
                weights,
                found,
                src_transform=rasters.grid.transform(part),
                src_crs=rasterio.CRS.from_epsg(zone.epsg),
                dst_transform=at,
                dst_crs=crs,
                resampling=Resampling.sum,
            )
            for total in sums:
                total += found
    share = np.divide(forest, observed, out=np.zeros(cells.shape), where=observed > 0)
    # Less than half a pixel at the edge of what was observed tells nothing.
    seen = observed > 0.5
    return np.where(seen, np.rint(100 * share), NO_OBSERVATION).astype(np.uint8)


def _part(outline: shapely.Polygon, zone: Zone, rasters: ZoneRasters) -> Window | None:
    """Pixels of a zone around some cells; None where it has none there."""
    move = pyproj.Transformer.from_crs(CRS_CODE, zone.epsg, always_xy=True)
    x, y = move.transform(*shapely.get_coordinates(outline).T)
    x, y = np.asarray(x), np.asarray(y)
    near = np.isfinite(x) & np.isfinite(y)
    if not near.all():
        return None
    size = rasters.grid.size
    left, right = math.floor(x.min() / size) - 1, math.ceil(x.max() / size) + 1
    top, bottom = math.floor(-y.max() / size) - 1, math.ceil(-y.min() / size) + 1
    from geoforest.mosaic.zones import common

    return common(Window(top, left, bottom - top, right - left), rasters.window)


def write_overview(path: Path, fraction: Path, attributes: Mapping[str, Any]) -> None:
    """Write outlines of what is mostly forest, generalised, for maps of the whole.

    Parameters
    ----------
    path
        GeoPackage to write, in longitude and latitude.
    fraction
        See :func:`write_fraction`.
    attributes
        Constant columns.
    """
    with open_raster(fraction) as source:
        shape, transform, crs = source.shape, source.transform, source.crs
    with PolygonStream(
        shape,
        transform=transform,
        crs=crs,
        min_area_ha=_MIN_AREA_HA,
        simplify_px=_SIMPLIFY_CELLS,
        attributes=dict(attributes),
        folder=path.parent,
    ) as stream:
        for _, percent in read_strips(fraction):
            mask = np.where(percent >= _MOST_PERCENT, FOREST, OTHER).astype(np.uint8)
            mask[percent == NO_OBSERVATION] = NO_OBSERVATION
            stream.add(mask)
        degrees = pyproj.CRS.from_epsg(4326)
        frames = (
            reprojected(frame.drop(columns="mean_probability"), degrees, tolerance=transform.a / 10)
            for frame in stream.frames()
        )
        write_geopackage(frames, path, layer=OVERVIEW_LAYER)
