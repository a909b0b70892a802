"""Read a STAC item as a product, and check its offset against its pixels."""

from __future__ import annotations

import importlib
import math
import os
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin

import numpy as np
import rasterio
from rasterio.errors import RasterioIOError

from geoforest.arrays.georef import TOLERANCE_PX
from geoforest.errors import FetchError, InputError, SceneError
from geoforest.io.files import is_web, without_secrets
from geoforest.io.raster import open_raster
from geoforest.io.remote import network_options, reason, remote_start
from geoforest.scenes.coding import Coding, sample_pixels, tags_of
from geoforest.scenes.product import MAGIC, MAGIC_BYTES, Product
from geoforest.scenes.read import GDAL_OPTIONS
from geoforest.scenes.stac.acquisition import item_baseline, item_level, item_tile
from geoforest.scenes.stac.assets import RasterAsset, band_assets, classification_asset, is_real
from geoforest.scenes.stac.dark_objects import (
    ESA_OFFSET,
    ESA_SCALE,
    SettledOffset,
    dark_objects,
    settle_offset,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pystac

    from geoforest.types import Array

SIGN_VARIABLE: Final = "GEOFOREST_STAC_SIGN"
_SUFFIXES: Final = (".json", ".geojson")
# Catalogues that state no nodata hold pixels of ESA's products.
_USUAL_NODATA: Final = 0.0
_MAX_FACT: Final = 100
_RELATIVE_ORBIT: Final = re.compile(r"_R(\d{3})_")


def is_item(location: str) -> bool:
    """Return whether a location looks like a STAC item: a JSON file, or an item of an API."""
    if is_web(location):
        path_of_url = location.partition("#")[0].partition("?")[0]
        return path_of_url.lower().endswith(_SUFFIXES) or "/items/" in path_of_url
    path = Path(location)
    return path.suffix.lower() in _SUFFIXES and path.is_file()


def read_item(location: str) -> Product:
    """Read a STAC item, and check its offset against its pixels, because it is often wrong.

    Parameters
    ----------
    location
        File or URL of the item. The function that ``GEOFOREST_STAC_SIGN=module:function`` names
        may sign its assets.

    Raises
    ------
    InputError
        When it cannot be read, or is not an item with georeferenced Sentinel-2 bands.
    """
    from geoforest.scenes.stac.catalogue import CatalogueIO

    shown = without_secrets(location)
    item = _parse_item(CatalogueIO().read_json(location), location)
    _sign(item, location)
    bands = band_assets(item, location)
    classification = classification_asset(item, location)
    notes = []
    first = bands.get("B04", next(iter(bands.values())))
    for raster in {one.path: one for one in (first, bands.get("B08", first))}.values():
        _check_content(raster, location)
    if not _has_crs(first, location):
        notes.append(f"{shown}: its rasters have no CRS; place and CRS are those of the item")
        bands = {name: _georeferenced(band, item, location) for name, band in bands.items()}
        classification = classification and _georeferenced(classification, item, location)
    facts = _facts(item)
    bands, settled = _settle_offset(bands, item, facts.get("processing_baseline"), location)
    if settled is not None:
        facts["offset_check"] = settled.facts
        notes += [f"{shown}: {settled.note}"] if settled.note else []
    return Product(
        product_id=item.id,
        location=shown,
        bands={name: band.path for name, band in bands.items()},
        codings={
            name: Coding(band.scale, band.offset, band.nodata) for name, band in bands.items()
        },
        usual_nodata=_USUAL_NODATA,
        acquired=_acquired(item, location),
        processing_level=item_level(item.properties, item.collection_id, item.id),
        scene_classification=classification.path if classification else None,
        # The job itself records the scale and offset of an item from the web.
        metadata=() if is_web(location) else (str(Path(location).absolute()),),
        facts=facts,
        notes=tuple(notes),
    )


def _parse_item(document: dict[str, Any], location: str) -> pystac.Item:
    import pystac

    kind = document.get("type")
    if kind in {"Catalog", "Collection", "FeatureCollection"}:
        raise SceneError(
            f"{location}: is a {kind}; one STAC item was wanted, and --stac searches a catalogue"
        )
    if kind != "Feature" or not isinstance(document.get("assets"), dict):
        raise SceneError(f"{location}: is no STAC item; a Feature with assets was wanted")
    assets = document["assets"].values()
    if not (
        isinstance(document.get("id"), str)
        and isinstance(document.get("properties"), dict)
        and all(isinstance(asset, dict) and _is_asset(asset) for asset in assets)
    ):
        raise SceneError(
            f"{location}: is no valid STAC item; an id, properties and assets with links were "
            "wanted"
        )
    try:
        return pystac.Item.from_dict(document, href=location, preserve_dict=False, migrate=True)
    # Malformed items make pystac raise any of these.
    except (
        pystac.STACError,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise SceneError(f"{location}: is no valid STAC item ({error!r:.200})") from error


def _is_asset(asset: dict[str, Any]) -> bool:
    return isinstance(asset.get("href"), str) and isinstance(asset.get("type", ""), str | None)


def _sign(item: pystac.Item, location: str) -> None:
    """Sign the assets with the user's own function, as late as possible: signatures expire."""
    reference = os.environ.get(SIGN_VARIABLE)
    if not reference:
        return
    module, _, name = reference.partition(":")
    try:
        sign = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"{SIGN_VARIABLE}={reference}: there is no such function; module:function was wanted, "
            "such as planetary_computer:sign_inplace"
        ) from error
    if is_web(location):
        for key, asset in item.assets.items():
            try:
                asset.href = urljoin(location, asset.href)
            except ValueError:
                raise SceneError(
                    f"{location}: asset {key} is at {asset.href[:200]}, which is no URL"
                ) from None
    try:
        sign(item)
    # The user's code may raise anything, and its message may hold a key.
    except Exception as error:  # noqa: BLE001
        raise InputError(
            f"{location}: {reference} could not sign it ({type(error).__name__})"
        ) from None


def _check_content(raster: RasterAsset, location: str) -> None:
    """Refuse what is no image inside, in an item from the web, before GDAL opens it.

    GDAL detects formats by content: what is named .tif may be a virtual raster, which could lead to
    files and servers of this machine. Only rasters need it whose pixels are read here; others are
    checked as those of any scene.
    """
    if not is_web(location):
        return
    try:
        start = remote_start(raster.path, MAGIC_BYTES)
    except (FetchError, InputError) as error:
        status = getattr(error, "status", None)
        why = f"HTTP response code: {status}" if status else str(error)
        raise SceneError(
            f"{location}: asset {raster.key} is no raster that can be read ({why})"
        ) from None
    if not start.startswith(MAGIC):
        raise SceneError(
            f"{location}: asset {raster.key} is neither TIFF nor JPEG 2000 inside; nothing else is "
            "opened of an item from the web"
        )


def _has_crs(raster: RasterAsset, location: str) -> bool:
    try:
        with rasterio.Env(**GDAL_OPTIONS, **network_options()), open_raster(raster.path) as source:
            return source.crs is not None
    except RasterioIOError as error:
        raise _unreadable(raster, location, error) from error


def _unreadable(raster: RasterAsset, location: str, error: RasterioIOError) -> SceneError:
    why = reason(error, raster.path)
    return SceneError(f"{location}: asset {raster.key} is no raster that can be read ({why})")


def _georeferenced(raster: RasterAsset, item: pystac.Item, location: str) -> RasterAsset:
    """Return a virtual raster with the bounds and CRS that the item states."""
    places: list[Mapping[str, Any]] = [raster.fields, item.properties]
    codes = (place.get("proj:code") or place.get("proj:epsg") for place in places)
    code = next((f"EPSG:{c}" if isinstance(c, int) else str(c) for c in codes if c), "")
    bounds = next(filter(None, map(_bounds, places)), None)
    # GDAL would take a URL's query for options of the virtual raster.
    if not re.fullmatch(r"[A-Z]+:\d+", code) or bounds is None or "?" in raster.path:
        raise SceneError(
            f"{location}: asset {raster.key} has no CRS, nor does the item give one with a place "
            "(proj:code, and proj:transform with proj:shape, or proj:bbox)"
        )
    left, bottom, right, top = bounds
    corners = ",".join(repr(float(value)) for value in (left, top, right, bottom))
    return replace(raster, path=f"vrt://{raster.path}?a_srs={code}&a_ullr={corners}")


def _bounds(fields: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    """Return ``(left, bottom, right, top)`` in the CRS; None when the item does not state it."""
    transform = _numbers(fields.get("proj:transform"), 6, 9)
    shape = _numbers(fields.get("proj:shape"), 2)
    if transform and shape:
        a, b, left, d, e, top = transform[:6]
        turned = abs(b) * shape[0] > TOLERANCE_PX * abs(a) or abs(d) * shape[
            1
        ] > TOLERANCE_PX * abs(e)
        return None if turned else (left, top + e * shape[0], left + a * shape[1], top)
    if box := _numbers(fields.get("proj:bbox"), 4):
        return box[0], box[1], box[2], box[3]
    return None


def _numbers(values: Any, *counts: int) -> list[float] | None:
    if not isinstance(values, list) or len(values) not in counts:
        return None
    return values if all(map(is_real, values)) else None


def _settle_offset(
    bands: dict[str, RasterAsset], item: pystac.Item, baseline: Any, location: str
) -> tuple[dict[str, RasterAsset], SettledOffset | None]:
    """Choose ESA's offset or none by the pixels, for all bands that state that of the red one.

    The choice is None, and the bands stay as they are, when they have another scale or offset.
    """
    red, nir = bands.get("B04"), bands.get("B08")
    if red is None or nir is None:
        return bands, None
    (red_values, known), (nir_values, _) = (_sample(band, location) for band in (red, nir))
    if not math.isclose(ESA_SCALE if known.scale is None else known.scale, ESA_SCALE) or (
        known.offset and not math.isclose(known.offset, ESA_OFFSET)
    ):
        return bands, None
    seen = dark_objects(red_values, nir_values, nodata=None)
    settled = settle_offset(known.offset, _offset_flag(item), baseline, seen)
    if red.offset is None and settled.offset == known.offset:
        # Each raster's own tag holds.
        return bands, settled
    return {
        name: replace(band, offset=settled.offset) if band.offset == red.offset else band
        for name, band in bands.items()
    }, settled


def _sample(raster: RasterAsset, location: str) -> tuple[Array, Coding]:
    """Return some pixels of a band, and its coding by the item or else by the raster's tags."""
    try:
        with rasterio.Env(**GDAL_OPTIONS, **network_options()), open_raster(raster.path) as source:
            stated = Coding(raster.scale, raster.offset, raster.nodata)
            known, values = stated.over(tags_of(source, 1)), sample_pixels(source)
    except RasterioIOError as error:
        raise _unreadable(raster, location, error) from error
    values[values == (_USUAL_NODATA if known.nodata is None else known.nodata)] = np.nan
    return values, known


def _offset_flag(item: pystac.Item) -> bool | None:
    """Return the catalogue's flag that it applied the offset to the pixels; None without one."""
    for name in ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied"):
        if isinstance(value := item.properties.get(name), bool):
            return value
    return None


def _acquired(item: pystac.Item, location: str) -> datetime | None:
    try:
        time = item.datetime or item.common_metadata.start_datetime
        return time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC) if time else None
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
        raise SceneError(f"{location}: has no valid start_datetime ({error!r:.200})") from error


def _facts(item: pystac.Item) -> dict[str, Any]:
    """Collect tile, orbit, baseline and cloud cover, which catalogues name differently."""
    get = item.properties.get
    orbit = _RELATIVE_ORBIT.search(f"{get('s2:product_uri')} {item.id}")
    facts = {
        "mgrs_tile": item_tile(item.properties) or None,
        "orbit": get("sat:relative_orbit") or (int(orbit.group(1)) if orbit else None),
        "processing_baseline": item_baseline(item.properties),
        "cloud_percent": get("eo:cloud_cover"),
    }
    return {
        name: value
        for name, value in facts.items()
        if is_real(value) or (isinstance(value, str) and len(value) <= _MAX_FACT)
    }
