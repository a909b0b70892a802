"""The area of interest: any vector file, brought to the scene's CRS and burned core by core."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from affine import Affine
from rasterio.features import geometry_mask
from shapely.geometry.base import BaseGeometry

from geoforest.errors import InputError
from geoforest.grid import Grid, Window
from geoforest.scene import Scene
from geoforest.types import Valid

# A straight edge in one CRS is a curve in another: vertices this far apart, in pixels, follow it.
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

    def _burn(self, core: Window) -> Valid:
        origin = self.transform @ Affine.translation(core.col_off, core.row_off)
        left, top = origin @ (0, 0)
        right, bottom = origin @ (core.width, core.height)
        if not shapely.intersects(self.geometry, shapely.box(left, bottom, right, top)):
            return np.zeros(core.shape, np.bool_)
        burned: Valid = geometry_mask(
            [self.geometry], out_shape=core.shape, transform=origin, invert=True
        )
        return burned


def read_aoi(path: str | Path, scene: Scene) -> AreaOfInterest:
    """Read the polygons of a vector file as one area of interest.

    Raises
    ------
    InputError
        When the file is no vector file, has no CRS or no polygon, or lies beside the scene.
    """
    import geopandas
    import pyogrio

    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file (--aoi)")
    try:
        frame = geopandas.read_file(path)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError) as error:
        raise InputError(f"{path}: not a vector file that GDAL can open ({error})") from error
    if "geometry" not in frame or frame.crs is None:
        raise InputError(f"{path}: has no geometries with a CRS (--aoi wants polygons)")
    polygons = frame.geometry[frame.geometry.geom_type.isin(["Polygon", "MultiPolygon"])]
    polygons = polygons[~polygons.is_empty]
    if polygons.empty:
        raise InputError(f"{path}: holds no polygon (--aoi wants polygons)")
    digest = hashlib.sha256(
        f"{frame.crs.to_wkt()}".encode() + b"".join(polygons.to_wkb())
    ).hexdigest()
    if frame.crs != scene.crs:
        step = abs(scene.transform.a) * _DENSIFY_PX
        # In units of the file's CRS: the extent shared out over the length in pixels.
        if frame.crs.is_geographic and not scene.crs.is_geographic:
            step /= 111_320
        elif scene.crs.is_geographic and not frame.crs.is_geographic:
            step *= 111_320
        polygons = polygons.segmentize(step).to_crs(scene.crs)
    geometry = polygons.make_valid().union_all()
    if not shapely.intersects(geometry, shapely.box(*scene.bounds)):
        raise InputError(
            f"{path}: does not touch scene {scene.scene_id}, whose bounds are "
            f"{tuple(round(value, 3) for value in scene.bounds)} in {scene.crs.to_string()[:40]}"
        )
    shapely.prepare(geometry)
    return AreaOfInterest(geometry, scene.transform, digest)
