"""``report.html`` of a mosaic: hectares, layers, zones, and warnings of its maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyproj
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.warp import reproject

from geoforest.arrays.georef import GeoRef
from geoforest.arrays.grid import PREVIEW_PX, Window
from geoforest.io.raster import open_raster
from geoforest.report.layers import Layer, indexed, ramped
from geoforest.report.page import render
from geoforest.report.picture import MASK_COLOURS
from geoforest.types import NO_OBSERVATION, Shape

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import rasterio

    from geoforest.maps.units.page import UnitTable

_CELL_PX = 10
# Colours by number of observations; four and more look alike.
_COUNT_COLOURS: Final = {1: "#c6dbef", 2: "#6baed6", 3: "#2171b5", 4: "#08306b"}

Bytes = NDArray[np.uint8]


def write_report(
    path: Path,
    *,
    fraction: Path,
    probability: Iterable[Path],
    counts: Iterable[Path],
    summary: Mapping[str, Any],
    zones: Mapping[str, Mapping[str, float]],
    units: UnitTable | None = None,
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
    summary
        Content of ``mosaic.json``.
    zones
        Hectares of ``forest`` and ``other`` by name of the zone.
    units
        Table of units, or None.
    """
    layers = _layers(fraction, probability, counts)
    page = render(
        "mosaic.html",
        summary=summary,
        zones=zones,
        layers=layers,
        units=units,
        file=fraction.name,
    )
    path.write_text(page, encoding="utf-8")


def fraction_picture(fraction: Path) -> bytes:
    """Draw a forest fraction as a PNG, cropped to observed ground and decimated for a page."""
    return next(one.image for one in _layers(fraction, (), ()) if one.name == "forest")


def _layers(fraction: Path, probability: Iterable[Path], counts: Iterable[Path]) -> list[Layer]:
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
    names = {n: "1 map" if n == 1 else f"{n} maps" + " or more" * (n == most) for n in found if n}
    return [
        ramped(
            "probability",
            "Probability of forest: dark where it is low, yellow where it is high.",
            stored,
            "viridis",
            ("0", "1"),
        ),
        ramped(
            "forest",
            "Share of the observed ground under forest: pale where there is little, green where "
            "much.",
            percent,
            "YlGn",
            ("0", "100 % of observed"),
            top=100,
        ),
        Layer(
            "observations",
            "By how many maps a place was observed: the darker, the more.",
            indexed(np.minimum(seen_by, most), {0: MASK_COLOURS[NO_OBSERVATION], **_COUNT_COLOURS}),
            legend=(
                *((_COUNT_COLOURS[n], name) for n, name in names.items()),
                (MASK_COLOURS[NO_OBSERVATION], "no observation"),
            ),
        ),
    ]


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
