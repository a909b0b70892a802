"""The area of interest: any vector file, brought to the scene's CRS and burned core by core."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely
from affine import Affine
from rasterio.features import geometry_mask

from geoforest.errors import InputError
from geoforest.io.polygon_files import in_crs, read_polygons

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from geoforest.arrays.grid import Grid, Window
    from geoforest.scenes.scene import Scene
    from geoforest.types import Valid


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
        bounds = shapely.box(*scene.bounds)
        near = in_crs(frame.make_valid(), bounds, scene.crs, max(scene.shape))
        geometry = near.make_valid().union_all()
    except shapely.errors.ShapelyError as error:
        raise InputError(f"{path}: holds geometries that are none ({error})") from error
    if not shapely.intersects(geometry, shapely.box(*scene.bounds)):
        raise InputError(
            f"{path}: does not touch scene {scene.scene_id}, whose bounds are "
            f"{tuple(round(value, 3) for value in scene.bounds)} in {scene.crs.to_string()[:40]}"
        )
    shapely.prepare(geometry)
    return AreaOfInterest(geometry, scene.transform, digest)
