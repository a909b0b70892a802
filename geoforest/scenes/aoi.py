"""The area of interest: a vector file, reprojected to the scene's CRS, rasterised core by core."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely
from affine import Affine
from rasterio.features import geometry_mask

from geoforest.errors import InputError
from geoforest.io.polygon_files import read_outline, where_they_are

if TYPE_CHECKING:
    from pathlib import Path

    from shapely.geometry.base import BaseGeometry

    from geoforest.arrays.grid import Grid, Window
    from geoforest.scenes.scene import Scene
    from geoforest.types import Valid


@dataclass(frozen=True)
class AreaOfInterest:
    """The area to map.

    Attributes
    ----------
    geometry
        Polygon or multipolygon in the scene's CRS.
    transform
        Affine transform of the scene.
    digest
        SHA-256 of the CRS and geometries in the file.
    notes
        Sentences the user should read.
    """

    geometry: BaseGeometry
    transform: Affine
    digest: str
    notes: tuple[str, ...] = ()

    def inside(self, grid: Grid, extent: Window) -> Valid:
        """Return a bool mask of ``extent``, True where a pixel's centre lies inside.

        Pixels are rasterised core by core, on the lattice of the scene, so that a pixel's value
        does not depend on its shard.
        """
        inside = np.zeros(extent.shape, np.bool_)
        for core in grid.cores(extent):
            rows = slice(core.row_off - extent.row_off, core.row_off - extent.row_off + core.height)
            cols = slice(core.col_off - extent.col_off, core.col_off - extent.col_off + core.width)
            inside[rows, cols] = self._burn(core)
        return inside

    def touches(self, core: Window) -> bool:
        """Return whether any part of a core lies inside."""
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
    """Read the polygons of all layers of a vector file as one area of interest.

    Raises
    ------
    InputError
        When the file is not a vector file, has no CRS or no polygon, or does not touch the scene.
    """
    bounds = shapely.box(*scene.bounds)
    try:
        outline = read_outline(path, near=[(bounds, scene.crs)])
        geometry = outline.merged(bounds, scene.crs, max(scene.shape))
    except shapely.errors.ShapelyError as error:
        raise InputError(f"{path}: holds invalid geometries ({error})") from error
    if not shapely.intersects(geometry, bounds):
        raise InputError(
            f"{path}: does not touch scene {scene.scene_id}, whose bounds are "
            f"{tuple(round(value, 3) for value in scene.bounds)} in {scene.crs.to_string()[:40]}; "
            + where_they_are(outline.polygons, [(bounds, scene.crs)], "the scene")
        )
    shapely.prepare(geometry)
    digest = hashlib.sha256(outline.content).hexdigest()
    return AreaOfInterest(geometry, scene.transform, digest, outline.notes)
