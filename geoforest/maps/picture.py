"""A first look at a scene, and at a map of it, as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import geopandas
import rasterio
from rasterio.enums import Resampling

from geoforest.arrays.grid import PREVIEW_PX
from geoforest.io.geopackage import LAYER
from geoforest.io.names import MASK_NAME, POLYGONS_NAME, PROBABILITY_NAME
from geoforest.report.figures import quicklook
from geoforest.report.quicklook import decimated, rgb_reflectance
from geoforest.report.sketch import Sketch
from geoforest.scenes.scene import Scene

if TYPE_CHECKING:
    from pathlib import Path

    from geoforest.scenes.scene import Scene
    from geoforest.types import Array, Valid


def map_picture(scene: Scene, folder: Path) -> bytes:
    """PNG of a scene and its map: probability, mask, and polygons where there are any.

    Parameters
    ----------
    scene
        See :func:`geoforest.scenes.open.open_scene`.
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
    """PNG of scene, probability, mask and polygons, decimated to a page's size.

    ``seen`` are the pixels of the scene and where they are valid, where they are known already.
    """
    dn, valid = seen or decimated(scene)
    return quicklook(
        rgb_reflectance(scene, dn),
        valid,
        probability=_decimated(probability),
        mask=_decimated(mask),
        outlines=sketch.rings(),
        bounds=scene.bounds,
        title=scene.scene_id,
        metres=scene.crs.is_projected,
    )


def _decimated(path: Path) -> Array:
    with rasterio.open(path) as source:
        factor = max(1.0, max(source.shape) / PREVIEW_PX)
        shape = tuple(max(1, round(side / factor)) for side in source.shape)
        values: Array = source.read(1, out_shape=shape, resampling=Resampling.nearest)
    return values
