"""``report.html`` of a comparison: both dates side by side, and the change of each pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from rasterio.enums import Resampling

from geoforest.io.names import QUICKLOOK_NAME
from geoforest.io.raster import open_raster
from geoforest.maps.change.codes import COLOURS, NAMES
from geoforest.report.layers import Layer, indexed, jpeg
from geoforest.report.page import render
from geoforest.report.picture import MASK_COLOURS, read_decimated_raster
from geoforest.types import NO_OBSERVATION, PROBABILITY_STEPS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from geoforest.maps.finished import FinishedMap

_GREY = 154


def write_report(
    path: Path, maps: tuple[FinishedMap, FinishedMap], change: Path, summary: dict[str, Any]
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
    """
    layers = _layers(maps, change, summary)
    path.write_text(render("change.html", summary=summary, layers=layers), encoding="utf-8")


def _layers(
    maps: tuple[FinishedMap, FinishedMap], change: Path, summary: dict[str, Any]
) -> list[Layer]:
    layers = []
    for one, which in zip(maps, ("earlier", "later"), strict=True):
        name = (summary[which]["acquired"] or "")[:10] or summary[which]["scene_id"]
        layers.append(
            Layer(name, f"The {which} scene.", jpeg(Image.fromarray(_scene_picture(one))))
        )
    # Unobserved ground is grey, as on other pages.
    colours = {code: "#{:02x}{:02x}{:02x}".format(*COLOURS[code][:3]) for code in NAMES}
    colours[NO_OBSERVATION] = MASK_COLOURS[NO_OBSERVATION]
    legend = tuple((colours[code], name) for code, name in NAMES.items())
    alt = "What became of the forest: stable, lost, gained, uncertain, not observed."
    codes = read_decimated_raster(change, resampling=Resampling.mode)
    layers.append(Layer("change", alt, indexed(codes, colours), legend=legend))
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
