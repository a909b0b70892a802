"""Pictures of a map for a page, one per layer: scene, NDVI, probability, mask and polygons."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image, ImageDraw

from geoforest.arrays.reflectance import ndvi
from geoforest.report.language import message
from geoforest.report.picture import (
    MASK_COLOURS,
    MASK_NAMES,
    OUTLINE,
    read_decimated_raster,
    true_colour,
)
from geoforest.report.quicklook import rgb_reflectance
from geoforest.types import NO_OBSERVATION, PROBABILITY_STEPS, Array, Valid

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from geoforest.report.sketch import Sketch
    from geoforest.scenes.scene import Scene

_QUALITIES = (85, 70, 50, 30, 10)
_MOST_BYTES = 1_000_000
_OUTLINE = "#{:02x}{:02x}{:02x}".format(*OUTLINE)
_NDVI_RANGE = (-0.2, 1.0)


@dataclass(frozen=True)
class Layer:
    """One picture of a page, with its legend. Its texts are those of the catalogues.

    Attributes
    ----------
    name
        Title, such as ``probability``.
    alt
        Description for readers who cannot see the picture.
    image
        Bytes of a JPEG or PNG file.
    legend
        Colour and name of each class; empty for a colour ramp.
    ramp
        Colours from low to high; empty for classes.
    ends
        Labels of the lowest and highest colour of ``ramp``.
    """

    name: str
    alt: str
    image: bytes
    legend: tuple[tuple[str, str], ...] = ()
    ramp: tuple[str, ...] = ()
    ends: tuple[str, str] = ("", "")


def scene_layers(
    scene: Scene, probability: Path, mask: Path, sketch: Sketch, seen: tuple[Array, Valid]
) -> list[Layer]:
    """Draw the layers of a map, decimated to a page's size.

    Parameters
    ----------
    scene
        The mapped scene.
    probability, mask
        Paths of the map's rasters.
    sketch
        Outlines of the map's polygons.
    seen
        Decimated pixels of the scene ``(band, row, col)`` and their valid mask ``(row, col)``.

    Returns
    -------
    list of Layer
        Scene, NDVI when the scene has red and near infrared, probability, mask, and polygons when
        there are any. All have the shape of ``seen``, except polygons, which are twice as large.
    """
    dn, valid = seen
    picture = np.rint(255 * true_colour(rgb_reflectance(scene, dn), valid)).astype(np.uint8)
    alt = message("The scene in true colour.")
    layers = [Layer(message("scene"), alt, jpeg(Image.fromarray(picture)))]
    index = _ndvi(scene, np.where(valid, dn, 0))
    if index is not None:
        low, high = _NDVI_RANGE
        steps = np.nan_to_num((index - low) / (high - low)).clip(0, 1) * PROBABILITY_STEPS
        codes = np.where(valid & np.isfinite(index), np.rint(steps), NO_OBSERVATION)
        alt = message("Vegetation index NDVI: brown where little is green, blue-green where much.")
        layers.append(ramped("NDVI", alt, codes.astype(np.uint8), "BrBG", (f"{low}", f"{high}")))
    alt = message("Probability of forest: dark where it is low, yellow where it is high.")
    stored = read_decimated_raster(probability, valid.shape)
    layers.append(ramped(message("probability"), alt, stored, "viridis", ("0", "1")))
    layers.append(
        Layer(
            message("mask"),
            message(
                "Forest mask: forest green, other sand-coloured, grey where nothing was observed."
            ),
            indexed(read_decimated_raster(mask, valid.shape), MASK_COLOURS),
            legend=tuple((MASK_COLOURS[code], name) for code, name in MASK_NAMES.items()),
        )
    )
    if rings := sketch.rings():
        alt = message("Outlines of the forest polygons over the scene.")
        outlined = _outlined(picture, rings, scene.bounds)
        legend = ((_OUTLINE, message("outline")),)
        layers.append(Layer(message("polygons"), alt, outlined, legend=legend))
    return layers


def _ndvi(scene: Scene, dn: Array) -> NDArray[np.float64] | None:
    """Compute the NDVI ``(row, col)`` of a scene's pixels; None without red or near infrared."""
    names = [band.name for band in scene.bands]
    if not {"B04", "B08"} <= set(names):
        return None
    red, nir = (
        dn[place] * scene.scale[place] + scene.offset[place]
        for place in (names.index("B04"), names.index("B08"))
    )
    return ndvi(red, nir)


def ramped(
    name: str,
    alt: str,
    stored: Array,
    colours: str,
    ends: tuple[str, str],
    *,
    top: int = PROBABILITY_STEPS,
) -> Layer:
    """Draw uint8 values 0 to ``top`` in the colours of a matplotlib colormap, and 255 in grey."""
    ramp = matplotlib.colormaps[colours]
    return Layer(
        name,
        alt,
        indexed(stored, ramp_table(colours, top)),
        ramp=tuple(matplotlib.colors.to_hex(ramp(step)) for step in np.linspace(0, 1, 9)),
        ends=ends,
    )


def ramp_table(colours: str, top: int) -> dict[int, str]:
    """Return a matplotlib colormap as colours of uint8 values 0 to ``top``, and grey for 255."""
    ramp = matplotlib.colormaps[colours]
    steps = np.linspace(0, 1, top + 1)
    table = {code: matplotlib.colors.to_hex(ramp(step)) for code, step in enumerate(steps)}
    return {**table, NO_OBSERVATION: MASK_COLOURS[NO_OBSERVATION]}


def indexed(codes: Array, colours: dict[int, str]) -> bytes:
    """Encode uint8 codes ``(row, col)`` as a PNG with one palette colour per code."""
    palette = np.zeros((256, 3), np.uint8)
    for code, colour in colours.items():
        palette[code] = np.rint(255 * np.array(to_rgb(colour)))
    image = Image.fromarray(codes)
    image.putpalette(palette.tobytes())
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _outlined(
    picture: NDArray[np.uint8],
    rings: Sequence[NDArray[np.float64]],
    bounds: tuple[float, float, float, float],
) -> bytes:
    # At twice the size the lines are fine enough to leave the scene visible.
    image = Image.fromarray(picture)
    image = image.resize((2 * image.width, 2 * image.height), Image.Resampling.BILINEAR)
    left, bottom, right, top = bounds
    scale = np.array([image.width / (right - left), -image.height / (top - bottom)])
    draw = ImageDraw.Draw(image)
    for ring in rings:
        draw.line(((ring - (left, top)) * scale).ravel().tolist(), fill=_OUTLINE, width=2)
    return jpeg(image)


def jpeg(image: Image.Image) -> bytes:
    """Encode a JPEG in the best quality below 1 MB, so that a page stays below 5 MB."""
    for quality in _QUALITIES:
        stream = io.BytesIO()
        # Full colour resolution keeps thin outlines visible.
        image.save(stream, "JPEG", quality=quality, subsampling=0)
        if stream.tell() <= _MOST_BYTES:
            break
    return stream.getvalue()
