"""``report.html`` of a comparison: both dates side by side, and the change of each pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from rasterio.enums import Resampling

from geoforest.arrays.area import PixelTable
from geoforest.arrays.georef import GeoRef
from geoforest.io.names import QUICKLOOK_NAME
from geoforest.io.raster import open_raster
from geoforest.maps.change.codes import COLOURS, NAMES
from geoforest.report.language import language, message
from geoforest.report.layers import Layer, indexed, jpeg
from geoforest.report.page import render
from geoforest.report.picture import MASK_COLOURS, read_decimated_raster, scale_bar
from geoforest.types import NO_OBSERVATION, PROBABILITY_STEPS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from geoforest.maps.finished import FinishedMap
    from geoforest.report.language import LanguageCode

_GREY = 154


def write_report(
    path: Path,
    maps: tuple[FinishedMap, FinishedMap],
    change: Path,
    summary: dict[str, Any],
    code: LanguageCode = "en",
) -> None:
    """Write the page, with its pictures inside: it needs no network.

    Parameters
    ----------
    path
        File to write.
    maps
        Earlier and later map.
    change
        Raster of change codes.
    summary
        Content of ``change.json``.
    code
        Language of the page.
    """
    layers = _layers(maps, change, summary)
    with open_raster(change) as source:
        georef = GeoRef.of(source, change)
    pixel_m = PixelTable.build(georef).pixel_area_m2() ** 0.5
    scale = scale_bar(pixel_m * georef.shape[1], language(code))
    page = render("change.html", code, summary=summary, layers=layers, kinds=NAMES, scale=scale)
    path.write_text(page, encoding="utf-8")


def _layers(
    maps: tuple[FinishedMap, FinishedMap], change: Path, summary: dict[str, Any]
) -> list[Layer]:
    layers = []
    alts = {"earlier": message("The earlier scene."), "later": message("The later scene.")}
    for one, which in zip(maps, ("earlier", "later"), strict=True):
        name = (summary[which]["acquired"] or "")[:10] or summary[which]["scene_id"]
        layers.append(Layer(name, alts[which], jpeg(Image.fromarray(_scene_picture(one)))))
    # Unobserved ground is grey, as on other pages.
    colours = {code: "#{:02x}{:02x}{:02x}".format(*COLOURS[code][:3]) for code in NAMES}
    colours[NO_OBSERVATION] = MASK_COLOURS[NO_OBSERVATION]
    legend = tuple((colours[code], name) for code, name in NAMES.items())
    alt = message("What became of the forest: stable, lost, gained, uncertain, not observed.")
    codes = read_decimated_raster(change, resampling=Resampling.mode)
    layers.append(Layer(message("change"), alt, indexed(codes, colours), legend=legend))
    return layers


def _scene_picture(one: FinishedMap) -> NDArray[np.uint8]:
    """Return the scene in true colour, or its probability when there is no quicklook."""
    path = one.folder / QUICKLOOK_NAME
    if path.is_file():
        with open_raster(path) as source:
            colours = np.moveaxis(source.read([1, 2, 3]), 0, -1)
            seen = source.dataset_mask() > 0
        return np.where(seen[..., None], colours, _GREY).astype(np.uint8)
    stored = read_decimated_raster(one.probability)
    grey = np.repeat(stored[..., None] * (255 / PROBABILITY_STEPS), 3, axis=-1)
    return np.where((stored == NO_OBSERVATION)[..., None], _GREY, grey).astype(np.uint8)
