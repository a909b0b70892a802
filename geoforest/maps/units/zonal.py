"""Sum the ground area of a mask under polygons; a pixel counts with its share inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from rasterio.errors import RasterioIOError

from geoforest.arrays.area import PixelTable
from geoforest.arrays.georef import GeoRef
from geoforest.arrays.grid import Window
from geoforest.arrays.polygons.reproject import reprojected, surroundings
from geoforest.arrays.zones import Zone
from geoforest.errors import InputError, ReadError
from geoforest.io.names import MASK_NAME
from geoforest.io.raster import open_raster
from geoforest.types import FOREST, NO_OBSERVATION, OTHER, PROBABILITY_STEPS, Mask, Shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import geopandas
    import rasterio

Floats = NDArray[np.float64]

CODES: Final = (FOREST, OTHER, NO_OBSERVATION)
# One block and its areas take 130 MB.
_BLOCK_PX = 2048
# This keeps the error of a large unit's area below a millionth.
_TOLERANCE_PX = 0.001
# Edges this short have the same area on the ellipsoid, whichever line joins their ends.
_STEP_M, _STEP_DEGREES = 1_000.0, 0.01
_WIDE_DEGREES = 90.0


@dataclass(frozen=True)
class MaskRaster:
    """A mask raster on disk.

    Attributes
    ----------
    path
        Path of the raster.
    georef
        Grid of the raster.
    territory
        Area that counts, in the CRS, when it is less than the raster; otherwise None.
    """

    path: Path
    georef: GeoRef
    territory: shapely.Polygon | None

    @property
    def box(self) -> shapely.Polygon:
        """Bounds as a polygon, in the CRS."""
        return shapely.box(*self.georef.bounds)


def open_mask(path: Path, *, owned: bool = False) -> MaskRaster:
    """Open a mask raster and check it; no pixels are read.

    Parameters
    ----------
    path
        Path of the raster.
    owned
        Whether it belongs to a mosaic, where only ground within its UTM zone counts.

    Raises
    ------
    InputError
        When it is not a georeferenced, north-up raster of one uint8 band.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    try:
        with open_raster(path) as source:
            georef = _checked(source, path)
    except RasterioIOError as error:
        raise InputError(f"{path}: not a raster that GDAL can read ({error})") from error
    zone = Zone.of(georef.crs) if owned else None
    _, bottom, _, top = georef.bounds
    territory = None if zone is None else zone.territory(bottom, top)
    return MaskRaster(path, georef, territory)


def _checked(source: rasterio.DatasetReader, path: Path) -> GeoRef:
    count, kind = source.count, source.dtypes[0]
    if count != 1 or kind != "uint8":
        raise InputError(f"{path}: {count} band(s) of {kind}; a mask, one of uint8, was wanted")
    if abs(source.scales[0] - 1 / PROBABILITY_STEPS) < 1e-9:
        raise InputError(f"{path}: is a stored probability; a mask, {MASK_NAME}, was wanted")
    if source.crs is None:
        raise InputError(f"{path}: has no CRS; a georeferenced mask was wanted")
    return GeoRef.of(source, path)


def in_pixels(units: geopandas.GeoDataFrame, raster: MaskRaster) -> geopandas.GeoDataFrame:
    """Clip units to a raster and convert them to its pixel coordinates: x is col, y is -row.

    Returns
    -------
    geopandas.GeoDataFrame
        ``row`` of the unit, and geometry; units outside the raster are left out.
    """
    import geopandas

    box, georef = raster.box, raster.georef
    crs = pyproj.CRS.from_user_input(georef.crs)
    geometry = units.geometry
    around = surroundings(box, georef.crs, units.crs)
    if around is not None:
        geometry = geometry.intersection(shapely.box(*around))
    parts = geopandas.GeoDataFrame(
        {"row": np.arange(len(units))}, geometry=geometry, crs=units.crs
    ).explode(ignore_index=True)
    parts = parts[parts.geometry.geom_type == "Polygon"]
    parts = parts[~parts.is_empty].reset_index(drop=True)
    if parts.crs != crs and len(parts):
        across = parts.total_bounds if around is None else around
        size = max(across[2] - across[0], across[3] - across[1]) / max(georef.shape)
        parts = reprojected(parts, crs, tolerance=_TOLERANCE_PX * size)
    t = georef.transform
    to_pixels = np.array([t.c, t.f]), np.array([t.a, -t.e])

    def placed(shapes: Any) -> Any:
        return shapely.transform(shapes, lambda points: (points - to_pixels[0]) / to_pixels[1])

    shapes = placed(parts.geometry.to_numpy())
    bent = ~shapely.is_valid(shapes)
    shapes[bent] = shapely.make_valid(shapes[bent], method="structure", keep_collapsed=False)
    if raster.territory is not None:
        shapes = shapely.intersection(shapes, placed(raster.territory))
    grid = shapely.box(0, -georef.shape[0], georef.shape[1], 0)
    inside = shapely.area(shapely.intersection(shapes, grid)) > 0
    return geopandas.GeoDataFrame({"row": parts["row"][inside]}, geometry=shapes[inside])


def sums_by_unit(
    near: geopandas.GeoDataFrame,
    raster: MaskRaster,
    n_units: int,
    codes: Sequence[int] = CODES,
) -> Floats:
    """Sum the ground area of each code under each unit, block by block.

    Parameters
    ----------
    near
        Polygons of the units in pixel coordinates, see :func:`in_pixels`.
    raster
        Mask to sum.
    n_units
        Number of rows of the result.
    codes
        Codes that the raster may have.

    Returns
    -------
    numpy.ndarray
        float64 ``(n_units, len(codes))``: area of each code, m2.

    Raises
    ------
    InputError
        When the raster holds other values where the units are.
    ReadError
        When it cannot be read to its end.
    """
    table = PixelTable.build(raster.georef)
    shapes, rows = near.geometry.to_numpy(), near["row"].to_numpy()
    tree, sums = shapely.STRtree(shapes), np.zeros((n_units, len(codes)))
    for window in _blocks(raster.georef.shape):
        left, top = window.col_off, -window.row_off
        bounds = (left, top - window.height, left + window.width, top)
        found = np.sort(tree.query(shapely.box(*bounds), predicate="intersects"))
        # Without clipping, each block would traverse whole outlines, however long.
        clipped = shapely.clip_by_rect(shapes[found], *bounds)
        filled = shapely.area(clipped) > 0
        if filled.any():
            mask = _read(raster, window, codes)
            area = table.area_m2(
                slice(window.row_off, window.row_off + window.height),
                slice(window.col_off, window.col_off + window.width),
            )
            np.add.at(
                sums, rows[found[filled]], _covered(mask, area, clipped[filled], bounds, codes)
            )
    return sums


def _covered(
    mask: Mask,
    area: Floats,
    polygons: NDArray[np.object_],
    bounds: tuple[float, float, float, float],
    codes: Sequence[int],
) -> Floats:
    """Return the ground area of each code under each polygon, float64 ``(polygon, code)``, m2."""
    import geopandas
    from exactextract import exact_extract
    from exactextract.raster import NumPyRasterSource

    sources = [
        NumPyRasterSource(np.where(mask == code, area, 0.0), *bounds, name=str(code))
        for code in codes
    ]
    # exactextract requires a CRS, which pixel coordinates lack: any will do.
    zones = geopandas.GeoDataFrame(geometry=polygons, crs=3857)
    found = exact_extract(sources, zones, ["sum"], output="pandas")
    covered: Floats = found[[f"{code}_sum" for code in codes]].to_numpy(np.float64)
    return covered


def _blocks(shape: Shape) -> Iterator[Window]:
    """Yield the windows of square blocks that cover a raster."""
    n_rows, n_cols = shape
    for row in range(0, n_rows, _BLOCK_PX):
        for col in range(0, n_cols, _BLOCK_PX):
            height, width = min(_BLOCK_PX, n_rows - row), min(_BLOCK_PX, n_cols - col)
            yield Window(row, col, height, width)


def _read(raster: MaskRaster, window: Window, codes: Sequence[int]) -> Mask:
    try:
        with open_raster(raster.path) as source:
            mask: Mask = source.read(1, window=window.slices)
    except RasterioIOError as error:
        raise ReadError(f"{raster.path}: cannot be read to its end ({error})") from error
    strange = ~np.isin(mask, codes)
    if strange.any():
        raise InputError(
            f"{raster.path}: value {mask[strange][0]}; a mask of "
            f"{', '.join(map(str, sorted(codes)[:-1]))} and {max(codes)} was wanted"
        )
    return mask


def ground_m2(units: geopandas.GeoDataFrame, ellipsoid: pyproj.CRS) -> Floats:
    """Return the true ground area of whole units on an ellipsoid, float64 ``(n,)``, m2."""
    step = _STEP_DEGREES if units.crs.is_geographic else _STEP_M
    geod = ellipsoid.get_geod()
    assert geod is not None  # the pixels were measured on it
    move = pyproj.Transformer.from_crs(units.crs, units.crs.geodetic_crs, always_xy=True)
    areas = np.zeros(len(units))
    for place, geometry in enumerate(units.geometry):
        parts = _quarters(geometry) if units.crs.is_geographic else shapely.get_parts(geometry)
        for polygon in shapely.segmentize(parts, step):
            rings = [polygon.exterior, *polygon.interiors]
            sizes = [
                abs(geod.polygon_area_perimeter(*move.transform(*ring.xy))[0]) for ring in rings
            ]
            areas[place] += sizes[0] - sum(sizes[1:])
    return areas


def _quarters(geometry: shapely.Geometry) -> NDArray[np.object_]:
    """Cut to polygons at most 90 degrees wide: beyond 180 degrees, their inside is ambiguous."""
    left, _, right, _ = geometry.bounds
    if right - left <= _WIDE_DEGREES:
        parts: NDArray[np.object_] = shapely.get_parts(geometry)
        return parts
    starts = np.arange(np.floor(left / _WIDE_DEGREES), np.ceil(right / _WIDE_DEGREES))
    boxes = [shapely.box(n * _WIDE_DEGREES, -90, (n + 1) * _WIDE_DEGREES, 90) for n in starts]
    pieces = shapely.get_parts(shapely.intersection(geometry, boxes))
    return np.array([one for one in pieces if one.geom_type == "Polygon"], np.object_)
