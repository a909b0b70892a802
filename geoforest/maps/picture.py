"""One picture of a scene and of its map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import geopandas

from geoforest.io.geopackage import LAYER
from geoforest.io.names import MASK_NAME, POLYGONS_NAME, PROBABILITY_NAME
from geoforest.report.figures import quicklook
from geoforest.report.picture import read_decimated_raster
from geoforest.report.quicklook import decimated, rgb_reflectance
from geoforest.report.sketch import Sketch

if TYPE_CHECKING:
    from pathlib import Path

    from geoforest.scenes.scene import Scene
    from geoforest.types import Array, Valid


def map_picture(scene: Scene, folder: Path) -> bytes:
    """Draw a scene and its map as a PNG: probability, mask, and polygons when there are any.

    Parameters
    ----------
    scene
        Scene that was mapped; see :func:`geoforest.scenes.open.open_scene`.
    folder
        Output folder of ``geoforest map``, on disk, with mask and probability.
    """
    sketch = Sketch(scene)
    if (folder / POLYGONS_NAME).is_file():
        sketch.tap(geopandas.read_file(folder / POLYGONS_NAME, layer=LAYER))
    return scene_quicklook(scene, folder / PROBABILITY_NAME, folder / MASK_NAME, sketch)


def scene_quicklook(
    scene: Scene,
    probability: Path,
    mask: Path,
    sketch: Sketch,
    seen: tuple[Array, Valid] | None = None,
) -> bytes:
    """Draw scene, probability, mask and polygons as a PNG, decimated to the size of a page.

    Parameters
    ----------
    scene
        Scene that was mapped.
    probability, mask
        Paths of the map's rasters.
    sketch
        Outlines of the map's polygons.
    seen
        Decimated pixels of the scene ``(band, row, col)`` and their valid mask ``(row, col)``; by
        default they are read from the scene.
    """
    dn, valid = seen or decimated(scene)
    return quicklook(
        rgb_reflectance(scene, dn),
        valid,
        probability=read_decimated_raster(probability),
        mask=read_decimated_raster(mask),
        outlines=sketch.rings(),
        bounds=scene.bounds,
        title=scene.scene_id,
        metres=scene.crs.is_projected,
    )
