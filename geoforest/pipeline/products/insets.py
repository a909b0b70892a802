"""Pictures of the places where a model is least certain, at full resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from rasterio.warp import transform

from geoforest.arrays.area import PixelTable
from geoforest.errors import ReadError
from geoforest.io.raster import open_raster
from geoforest.pipeline.products.unsure import is_unsure
from geoforest.report.layers import indexed, jpeg, ramp_table
from geoforest.report.picture import OUTLINE, outline_mask, stretch_limits, stretched
from geoforest.report.quicklook import rgb_reflectance
from geoforest.scenes.read import read_window
from geoforest.types import NO_OBSERVATION, PROBABILITY_STEPS, Array, Mask, Valid

if TYPE_CHECKING:
    from pathlib import Path

    from geoforest.arrays.grid import Window
    from geoforest.scenes.scene import Scene

# Screen pixels per pixel of the scene, so that outlines are thin.
_ZOOM = 3


@dataclass(frozen=True)
class Inset:
    """Picture of an unsure place at full resolution.

    Attributes
    ----------
    scene, probability
        Bytes of image files: the scene with the outline of the forest mask, and the probability.
    lon, lat
        Its middle, degrees.
    unsure_percent
        Share of its observed pixels within 0.1 of the threshold.
    metres
        Its width on the ground, m.
    """

    scene: bytes
    probability: bytes
    lon: float
    lat: float
    unsure_percent: float
    metres: float


def draw_insets(
    scene: Scene,
    places: list[Window],
    *,
    probability: Path,
    mask: Path,
    threshold: float,
    seen: tuple[Array, Valid],
) -> list[Inset]:
    """Draw unsure places; those whose pixels cannot be read are left out.

    Parameters
    ----------
    scene
        The mapped scene.
    places
        See :meth:`UnsureCells.places`.
    probability, mask
        Rasters of the map.
    threshold
        Threshold of the mask, 0 to 1.
    seen
        Decimated pixels ``(band, row, col)`` and valid mask of the whole scene, whose contrast the
        insets have.
    """
    dn, valid = seen
    if not valid.any():
        return []
    pixel_m = PixelTable.build(scene.georef).pixel_area_m2() ** 0.5
    limits = stretch_limits(rgb_reflectance(scene, dn), valid)
    insets = []
    for place in places:
        try:
            dn, valid = read_window(scene, place)
        except ReadError:
            continue
        stored, codes = _cut(probability, place), _cut(mask, place)
        near, observed = is_unsure(stored, threshold), stored != NO_OBSERVATION
        x, y = scene.transform @ (
            place.col_off + place.width / 2,
            place.row_off + place.height / 2,
        )
        (lon,), (lat,) = transform(scene.crs, "EPSG:4326", [x], [y])
        insets.append(
            Inset(
                scene=_outlined(scene, dn, valid, codes, limits),
                probability=indexed(stored, ramp_table("viridis", PROBABILITY_STEPS)),
                lon=lon,
                lat=lat,
                unsure_percent=100 * float(near.sum() / max(observed.sum(), 1)),
                metres=place.width * pixel_m,
            )
        )
    return insets


def _cut(path: Path, place: Window) -> Array:
    with open_raster(path) as source:
        values: Array = source.read(1, window=place.slices)
    return values


def _outlined(
    scene: Scene, dn: Array, valid: Valid, codes: Mask, limits: tuple[float, float]
) -> bytes:
    colours = stretched(rgb_reflectance(scene, dn), *limits)
    colours[~valid] = 0.6
    picture = np.rint(255 * colours).astype(np.uint8).repeat(_ZOOM, 0).repeat(_ZOOM, 1)
    picture[outline_mask(codes.repeat(_ZOOM, 0).repeat(_ZOOM, 1))] = OUTLINE
    return jpeg(Image.fromarray(picture))
