"""Polygons read from any vector file that GDAL opens, and moved to the CRS of a raster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import shapely

from geoforest.arrays.polygons.reproject import surroundings
from geoforest.errors import InputError
from geoforest.io.gdal import pinned_vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    import geopandas
    from shapely.geometry.base import BaseGeometry

_DENSIFY_PX = 50


def outline_in(
    polygons: geopandas.GeoSeries, box: BaseGeometry, crs: Any, n_px: int
) -> BaseGeometry | None:
    """Move polygons to a CRS, merge them and clip them to a box there.

    Parameters
    ----------
    polygons
        See :func:`read_polygons`.
    box, crs
        The box and its CRS.
    n_px
        Pixels along its longer side: edges are densified to follow the CRS.

    Returns
    -------
    shapely geometry or None
        None where they do not meet the box.
    """
    near = in_crs(polygons.make_valid(), box, crs, n_px)
    found = shapely.intersection(near.make_valid().union_all(), box)
    return found if found.area else None


def read_polygons(path: str | Path) -> geopandas.GeoSeries:
    """Read the polygons of the first layer of a vector file that has geometries.

    Raises
    ------
    InputError
        When it is not a vector file, or has no CRS or no polygon.
    """
    layers = polygon_layers(path, "--aoi")
    return read_layer(path, layers[0] if layers else None, "--aoi").geometry


@pinned_vectors()
def polygon_layers(path: str | Path, option: str) -> list[str]:
    """List the layers of a vector file that have geometries.

    Parameters
    ----------
    path
        Any vector file that GDAL opens.
    option
        Option with which the user gave the file, for messages.

    Raises
    ------
    InputError
        When it is not a vector file.
    """
    import pyogrio

    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file ({option})")
    try:
        return [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError) as error:
        raise InputError(f"{path}: not a vector file that GDAL can open ({error})") from error


@pinned_vectors()
def read_layer(
    path: str | Path, layer: str | None, option: str, *, columns: Sequence[str] = ()
) -> geopandas.GeoDataFrame:
    """Read the polygons of a layer; other and empty geometries are left out.

    Parameters
    ----------
    path, option
        See :func:`polygon_layers`.
    layer
        Name of a layer of the file, or None where it has none.
    columns
        Columns to read besides the geometry.

    Raises
    ------
    InputError
        When the layer cannot be read, has no CRS or no polygon.
    """
    import geopandas
    import pyogrio

    path = Path(path)
    try:
        frame = (
            None
            if layer is None
            else geopandas.read_file(path, layer=layer, columns=list(columns), engine="pyogrio")
        )
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError) as error:
        raise InputError(f"{path}: not a vector file that GDAL can open ({error})") from error
    if frame is None or "geometry" not in frame or frame.crs is None:
        raise InputError(f"{path}: has no geometries with a CRS ({option} wants polygons)")
    polygons = frame[frame.geometry.geom_type.isin(["Polygon", "MultiPolygon"])]
    polygons = polygons[~polygons.is_empty]
    if polygons.empty:
        raise InputError(f"{path}: holds no polygon ({option} wants polygons)")
    return polygons


def in_crs(
    polygons: geopandas.GeoSeries, box: BaseGeometry, crs: Any, n_px: int
) -> geopandas.GeoSeries:
    """Move polygons to a CRS, without parts far from a box there.

    Most projections cannot hold polygons of half the world.
    """
    if polygons.crs == crs:
        return polygons
    around = surroundings(box, crs, polygons.crs)
    if around is None:
        return polygons.to_crs(crs)
    near = polygons.intersection(shapely.box(*around))
    # A straight edge in one CRS is a curve in another: a vertex every few dozen pixels follows it.
    return near.segmentize(_step(around, n_px / _DENSIFY_PX + 64)).to_crs(crs)


def _step(bounds: Sequence[float], parts: float) -> float:
    left, bottom, right, top = bounds
    return max(right - left, top - bottom) / parts
