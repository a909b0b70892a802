"""A first look at a scene, and at a map of it, as pictures."""

from __future__ import annotations

import io
from pathlib import Path

import geopandas
import numpy as np
from PIL import Image

from geoforest.io.geopackage import LAYER
from geoforest.io.names import MASK_NAME, POLYGONS_NAME, PROBABILITY_NAME
from geoforest.pipeline.products.page import scene_quicklook
from geoforest.report.picture import true_colour
from geoforest.report.quicklook import decimated, visible
from geoforest.report.sketch import Sketch
from geoforest.scenes.scene import Scene


def scene_picture(scene: Scene) -> bytes:
    """PNG of a scene in true colour, decimated to a page's size; grey where unobserved."""
    dn, valid = decimated(scene)
    picture = np.rint(255 * true_colour(visible(scene, dn), valid)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="png")
    return stream.getvalue()


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
        sketch.seen(geopandas.read_file(folder / POLYGONS_NAME, layer=LAYER))
    return scene_quicklook(scene, folder / PROBABILITY_NAME, folder / MASK_NAME, sketch)
