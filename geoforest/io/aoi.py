"""The area of interest: any vector file, brought to the scene's CRS and burned core by core."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely
from affine import Affine
from rasterio.features import geometry_mask
from shapely.geometry.base import BaseGeometry

from geoforest.errors import InputError
from geoforest.grid import Grid, Window
from geoforest.scene import Scene
from geoforest.types import Valid

if TYPE_CHECKING:
    import geopandas

_DENSIFY_PX = 50


@dataclass(frozen=True)
class AreaOfInterest:
    """Where results are wanted.

    Attributes
    ----------
    geometry
        Polygonal, in the scene's CRS.
    transform
        Of the scene.
    digest
        Hash of the geometry as it was in its file.
    """

    geometry: BaseGeometry
    transform: Affine
    digest: str

    def inside(self, grid: Grid, extent: Window) -> Valid:
        """Pixels of ``extent`` whose centre lies inside.

        Burned core by core, on the lattice that belongs to the scene, so that a pixel's answer
        does not depend on the shard it is asked for in.
        """
        inside = np.zeros(extent.shape, np.bool_)
        for core in grid.cores(extent):
            rows = slice(core.row_off - extent.row_off, core.row_off - extent.row_off + core.height)
            cols = slice(core.col_off - extent.col_off, core.col_off - extent.col_off + core.width)
            inside[rows, cols] = self._burn(core)
        return inside

    def touches(self, core: Window) -> bool:
        """Whether any of a core lies inside."""
        origin = self._origin(core)
        left, top = origin @ (0, 0)
        right, bottom = origin @ (core.width, core.height)
        return bool(shapely.intersects(self.geometry, shapely.box(left, bottom, right, top)))

    def _origin(self, core: Window) -> Affine:
        return self.transform @ Affine.translation(core.col_off, core.row_off)

    def _burn(self, core: Window) -> Valid:
        if not self.touches(core):
            return np.zeros(core.shape, np.bool_)
        burned: Valid = geometry_mask(
            [self.geometry], out_shape=core.shape, transform=self._origin(core), invert=True
        )
        return burned


def read_aoi(path: str | Path, scene: Scene) -> AreaOfInterest:
    """Read the polygons of a vector file as one area of interest.

    Raises
    ------
    InputError
        When the file is no vector file, has no CRS or no polygon, or lies beside the scene.
    """
    path = Path(path)
    try:
        frame = read_polygons(path)
        digest = hashlib.sha256(frame.crs.to_wkt().encode() + b"".join(frame.to_wkb())).hexdigest()
        geometry = _in_crs_of(frame.make_valid(), scene).make_valid().union_all()
    except shapely.errors.ShapelyError as error:
        raise InputError(f"{path}: holds geometries that are none ({error})") from error
    if not shapely.intersects(geometry, shapely.box(*scene.bounds)):
        raise InputError(
            f"{path}: does not touch scene {scene.scene_id}, whose bounds are "
            f"{tuple(round(value, 3) for value in scene.bounds)} in {scene.crs.to_string()[:40]}"
        )
    shapely.prepare(geometry)
    return AreaOfInterest(geometry, scene.transform, digest)


def read_polygons(path: str | Path) -> geopandas.GeoSeries:
    """Read the polygons of a vector file, in its CRS.

    Raises
    ------
    InputError
        When the file is no vector file, or has no CRS or no polygon.
    """
    import geopandas
    import pyogrio

    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file (--aoi)")
    try:
        layers = [name for name, kind in pyogrio.list_layers(path) if kind is not None]
        frame = geopandas.read_file(path, layer=layers[0]) if layers else None
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError) as error:
        raise InputError(f"{path}: not a vector file that GDAL can open ({error})") from error
    if frame is None or "geometry" not in frame or frame.crs is None:
        raise InputError(f"{path}: has no geometries with a CRS (--aoi wants polygons)")
    polygons = frame.geometry[frame.geometry.geom_type.isin(["Polygon", "MultiPolygon"])]
    polygons = polygons[~polygons.is_empty]
    if polygons.empty:
        raise InputError(f"{path}: holds no polygon (--aoi wants polygons)")
    return polygons


def _in_crs_of(polygons: geopandas.GeoSeries, scene: Scene) -> geopandas.GeoSeries:
    """Bring polygons to the scene's CRS, less what lies far from the scene.

    Half a world does not fit into the domain of most projections.
    """
    import geopandas

    if polygons.crs == scene.crs:
        return polygons
    outline = shapely.segmentize(shapely.box(*scene.bounds), _step(scene.bounds, 64))
    there = geopandas.GeoSeries([outline], crs=scene.crs).to_crs(polygons.crs).total_bounds
    if not np.isfinite(there).all():
        return polygons.to_crs(scene.crs)
    margin = 0.1 * max(there[2] - there[0], there[3] - there[1])
    around = there + np.array([-margin, -margin, margin, margin])
    near = polygons.intersection(shapely.box(*around))
    # A straight edge in one CRS is a curve in another: vertices a few dozen pixels apart follow it.
    n_vertices = max(scene.shape) / _DENSIFY_PX + 64
    return near.segmentize(_step(tuple(around), n_vertices)).to_crs(scene.crs)


def _step(bounds: Sequence[float], parts: float) -> float:
    left, bottom, right, top = bounds
    return max(right - left, top - bottom) / parts
