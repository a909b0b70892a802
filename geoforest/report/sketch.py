"""Outlines of polygons for a picture, kept while the polygons stream by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import shapely

if TYPE_CHECKING:
    import geopandas
    import numpy as np
    from numpy.typing import NDArray

    from geoforest.scenes.scene import Scene

# More than a picture of a scene has pixels along a side.
_SIDE_PX = 2000


class Sketch:
    """Polygons of a scene as fine as a picture can show them."""

    def __init__(self, scene: Scene) -> None:
        left, bottom, right, top = scene.bounds
        # A small scene is shown as it is.
        is_large = max(scene.shape) > _SIDE_PX
        self._step = max(right - left, top - bottom) / _SIDE_PX if is_large else 0.0
        self._rings: list[NDArray[np.float64]] = []

    def tap(self, frame: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
        """Keep the outlines of some polygons, and pass the polygons on."""
        geometries = frame.geometry.to_numpy()
        if self._step:
            geometries = shapely.simplify(geometries, self._step, preserve_topology=False)
        rings = shapely.get_rings(geometries)
        self._rings += [shapely.get_coordinates(ring) for ring in rings]
        return frame

    def rings(self) -> list[NDArray[np.float64]]:
        """``(n, 2)`` of each, in CRS coordinates."""
        return self._rings
