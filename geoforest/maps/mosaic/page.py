"""``report.html`` of a mosaic: hectares, layers, zones, and warnings of its maps."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyproj
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import Resampling
from rasterio.warp import reproject, transform

from geoforest.arrays.georef import GeoRef
from geoforest.arrays.grid import PREVIEW_PX, Window
from geoforest.io.raster import open_raster
from geoforest.report.language import language, message
from geoforest.report.layers import Layer, indexed, jpeg, ramped
from geoforest.report.page import render
from geoforest.report.picture import MASK_COLOURS, scale_bar
from geoforest.types import NO_OBSERVATION, Shape

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import rasterio

    from geoforest.maps.units.page import UnitTable
    from geoforest.report.language import Language, LanguageCode

_CELL_PX = 10
# Colours by number of observations; four and more look alike.
_COUNT_COLOURS: Final = {1: "#c6dbef", 2: "#6baed6", 3: "#2171b5", 4: "#08306b"}
_COUNT_NAMES: Final = {
    1: message("1 map"),
    2: message("2 maps"),
    3: message("3 maps"),
    4: message("4 maps or more"),
}
_GREY = 154

Bytes = NDArray[np.uint8]


def write_report(
    path: Path,
    *,
    fraction: Path,
    probability: Iterable[Path],
    counts: Iterable[Path],
    scenes: Iterable[Path],
    dates: Mapping[str, str],
    summary: Mapping[str, Any],
    zones: Mapping[str, Mapping[str, float]],
    units: UnitTable | None = None,
    code: LanguageCode = "en",
) -> None:
    """Write the page, with its pictures inside: it needs no network.

    Parameters
    ----------
    path
        File to write.
    fraction
        Forest fraction, see :func:`geoforest.maps.mosaic.cells.write_fraction`.
    probability, counts
        Rasters of stored probability and of number of observations, one per zone.
    scenes
        Pictures of the scenes in true colour, with transparency; those before cover those after.
    dates
        Day of acquisition by scene id, as an ISO date; empty where it is not known.
    summary
        Content of ``mosaic.json``.
    zones
        Hectares of ``forest`` and ``other`` by name of the zone.
    units
        Table of units, or None.
    code
        Language of the page.
    """
    layers, georef = _layers(fraction, probability, counts, scenes)
    chosen = language(code)
    known = sorted(date for date in dates.values() if date)
    page = render(
        "mosaic.html",
        code,
        summary=summary,
        dates=dates,
        period=[
            chosen.date(datetime.fromisoformat(date)) for date in known[:: len(known) - 1 or 1]
        ],
        scale=scale_bar(_width_m(georef), chosen),
        zones=zones,
        layers=layers,
        units=units,
        file=fraction.name,
    )
    path.write_text(page, encoding="utf-8")


def _period(dates: Sequence[str], chosen: Language) -> list[str]:
    """Return the first and the last of sorted ISO dates in words: none, one, or two."""
    ends = dict.fromkeys([*dates[:1], *dates[-1:]])
    return [chosen.date(datetime.fromisoformat(date)) for date in ends]


def fraction_picture(fraction: Path) -> bytes:
    """Draw a forest fraction as a PNG, cropped to observed ground and decimated for a page."""
    layers, _ = _layers(fraction, (), (), ())
    return next(one.image for one in layers if one.name == "forest")


def _layers(
    fraction: Path, probability: Iterable[Path], counts: Iterable[Path], scenes: Iterable[Path]
) -> tuple[list[Layer], GeoRef]:
    """Draw the layers of a mosaic on the cells of the fraction, cropped and decimated."""
    with open_raster(fraction) as source:
        window = _observed_window(source)
        cells = GeoRef.of(source, fraction).window(window)
        centre = cells.transform @ (window.width / 2, window.height / 2)
        true = window.height * _height_by_width(centre, source.crs)
        # A cell has at least ten pixels: draw a small mosaic at full resolution.
        factor = max(1 / _CELL_PX, max(true, window.width) / PREVIEW_PX)
        shape = _shrunk_shape((true, window.width), factor)
        percent = source.read(
            1, window=window.slices, out_shape=shape, resampling=Resampling.nearest
        )
        georef = cells.resampled(shape)
    stored = np.full(percent.shape, NO_OBSERVATION, np.uint8)
    for path in probability:
        _paste_zone(path, stored, georef, NO_OBSERVATION)
    seen_by = np.zeros(percent.shape, np.uint8)
    for path in counts:
        _paste_zone(path, seen_by, georef, 0)
    most = max(_COUNT_COLOURS)
    found = np.unique(np.minimum(seen_by, most)).tolist()
    layers = []
    if pictures := list(scenes):
        colours = np.full((*percent.shape, 3), _GREY, np.uint8)
        # The first covers the others, so it is pasted last.
        for path in reversed(pictures):
            _paste_scene(path, colours, georef)
        alt = message("The scenes in true colour.")
        layers.append(Layer(message("scene"), alt, jpeg(Image.fromarray(colours))))
    layers += [
        ramped(
            message("probability"),
            message("Probability of forest: dark where it is low, yellow where it is high."),
            stored,
            "viridis",
            ("0", "1"),
        ),
        ramped(
            message("forest"),
            message(
                "Share of the observed ground under forest: pale where there is little, green "
                "where much."
            ),
            percent,
            "YlGn",
            ("0", message("100 % of observed")),
            top=100,
        ),
        Layer(
            message("observations"),
            message("By how many maps a place was observed: the darker, the more."),
            indexed(np.minimum(seen_by, most), {0: MASK_COLOURS[NO_OBSERVATION], **_COUNT_COLOURS}),
            legend=(
                *((_COUNT_COLOURS[n], _COUNT_NAMES[n]) for n in found if n),
                (MASK_COLOURS[NO_OBSERVATION], message("no observation")),
            ),
        ),
    ]
    return layers, georef


def _width_m(georef: GeoRef) -> float:
    """Return the width on the ground of the middle row, m."""
    left, bottom, right, top = georef.bounds
    middle = (top + bottom) / 2
    lons, lats = transform(georef.crs, "EPSG:4326", [left, right], [middle, middle])
    return float(pyproj.Geod(ellps="WGS84").inv(lons[0], lats[0], lons[1], lats[1])[2])


def _observed_window(source: rasterio.DatasetReader) -> Window:
    """Return the cells around all observed ground, since maps cover tiles only in part."""
    shape = _shrunk_shape(source.shape, max(1.0, max(source.shape) / PREVIEW_PX))
    seen = source.read(1, out_shape=shape, resampling=Resampling.nearest) != NO_OBSERVATION
    ends = []
    for axis, (few, many) in enumerate(zip(shape, source.shape, strict=True)):
        found = np.flatnonzero(seen.any(axis=1 - axis))
        first, last = (int(found[0]), int(found[-1])) if len(found) else (0, few - 1)
        ends.append((first * many // few, -(-(last + 1) * many // few)))
    (top, bottom), (left, right) = ends
    return Window(top, left, bottom - top, right - left)


def _height_by_width(place: tuple[float, float], crs: rasterio.CRS) -> float:
    """Return height by width of a cell on the ground: cells of equal area are not square."""
    projection = pyproj.Proj(crs)
    factors = projection.get_factors(*projection(*place, inverse=True))
    return float(factors.parallel_scale / factors.meridional_scale)


def _shrunk_shape(shape: tuple[float, float], factor: float) -> Shape:
    rows, cols = (max(1, round(side / factor)) for side in shape)
    return rows, cols


def _paste_zone(path: Path, target: Bytes, georef: GeoRef, nodata: int) -> None:
    """Paste a zone's raster into the picture, where it was observed."""
    pixel = min(georef.transform.a, -georef.transform.e)
    with open_raster(path) as source:
        # Read overviews, not every pixel of a basin.
        shape = _shrunk_shape(source.shape, max(1.0, pixel / source.transform.a))
        values = source.read(1, out_shape=shape, resampling=Resampling.nearest)
        at = GeoRef.of(source, path).resampled(shape)
        moved = np.full(target.shape, nodata, np.uint8)
        reproject(
            values,
            moved,
            src_transform=at.transform,
            src_crs=at.crs,
            src_nodata=nodata,
            dst_transform=georef.transform,
            dst_crs=georef.crs,
            dst_nodata=nodata,
            resampling=Resampling.nearest,
        )
    there = moved != nodata
    target[there] = moved[there]


def _paste_scene(path: Path, target: Bytes, georef: GeoRef) -> None:
    """Paste a scene in true colour into ``(row, col, 3)``, where its picture is opaque."""
    with open_raster(path) as source:
        at = GeoRef.of(source, path)
        seen = source.dataset_mask()
        moved = np.zeros((4, *target.shape[:2]), np.uint8)
        reproject(
            np.concatenate([source.read([1, 2, 3]), seen[None]]),
            moved,
            src_transform=at.transform,
            src_crs=at.crs,
            dst_transform=georef.transform,
            dst_crs=georef.crs,
            resampling=Resampling.nearest,
        )
    there = moved[3] > 0
    target[there] = np.moveaxis(moved[:3], 0, -1)[there]
