"""Simplified outlines of polygons for a picture, collected from a stream of polygons."""

from __future__ import annotations

from typing import TYPE_CHECKING

import shapely

if TYPE_CHECKING:
    import geopandas
    import numpy as np
    from numpy.typing import NDArray

    from geoforest.scenes.scene import Scene

# Longer than a side of any picture of a scene, px.
_SIDE_PX = 2000


class Sketch:
    """Outlines of a scene's polygons, as detailed as a picture can show.

    Parameters
    ----------
    scene
        Its bounds and size determine the tolerance of simplification.
    """

    def __init__(self, scene: Scene) -> None:
        left, bottom, right, top = scene.bounds
        # The outlines of a small scene are not simplified.
        is_large = max(scene.shape) > _SIDE_PX
        self._step = max(right - left, top - bottom) / _SIDE_PX if is_large else 0.0
        self._rings: list[NDArray[np.float64]] = []

    def tap(self, frame: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
        """Store the outlines of some polygons, and return the polygons unchanged."""
        geometries = frame.geometry.to_numpy()
        if self._step:
            geometries = shapely.simplify(geometries, self._step, preserve_topology=False)
        rings = shapely.get_rings(geometries)
        self._rings += [shapely.get_coordinates(ring) for ring in rings]
        return frame

    def rings(self) -> list[NDArray[np.float64]]:
        """Return the outlines collected so far, ``(n, 2)`` each, in CRS coordinates."""
        return self._rings
