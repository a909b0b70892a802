"""Find the assets of a STAC item that are bands, their paths, scales and offsets."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urljoin, urlsplit

from geoforest.errors import InputError, SceneError
from geoforest.io.endpoint import is_http
from geoforest.io.files import is_web
from geoforest.io.reach import refuse_inward
from geoforest.scenes.scene import band_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pystac

_GDAL_PREFIXES: Final = {
    "http": "/vsicurl/",
    "https": "/vsicurl/",
    "s3": "/vsis3/",
    "gs": "/vsigs/",
}
_PICTURES: Final = {"image/jpeg", "image/png"}
_CLASSIFICATION: Final = re.compile(r"scl([_-]\d+m)?(-jp2)?", re.IGNORECASE)
_LARGEST: Final = 1e300
_RESOLUTION: Final = re.compile(r"[_-](\d+)m(?=$|[_-])")


@dataclass(frozen=True)
class RasterAsset:
    """An asset that is a raster of one band.

    Attributes
    ----------
    key
        Key of the asset in the item.
    path
        Path for GDAL; may hold a signature.
    scale, offset, nodata
        The values that the item states, or None.
    fields
        All other fields of the asset.
    """

    key: str
    path: str
    scale: float | None
    offset: float | None
    nodata: float | None
    fields: Mapping[str, Any]


def band_assets(item: pystac.Item, location: str) -> dict[str, RasterAsset]:
    """Find the raster of each band at the finest resolution, preferring GeoTIFF to JPEG 2000.

    Parameters
    ----------
    item
        An item of Earth Search, the Planetary Computer or the Copernicus Data Space, or of another
        catalogue with such asset names.
    location
        File or URL of the item; relative links start from it.

    Raises
    ------
    SceneError
        When no asset is a band, or a band's asset cannot be used.
    """
    found: dict[str, list[str]] = {}
    for key, asset in item.assets.items():
        name = _band_of(key, asset)
        if name is not None:
            found.setdefault(name, []).append(key)
    if not found and any(map(_is_zarr, item.assets.values())):
        raise SceneError(
            f"{location}: its assets are Zarr (EOPF); an item whose bands are GeoTIFF or JPEG 2000 "
            "was wanted, such as of Earth Search, the Planetary Computer or the Copernicus Data "
            "Space"
        )
    if not found:
        keys = ", ".join(sorted(item.assets)) or "none"
        raise SceneError(
            f"{location}: no asset is a Sentinel-2 band; its assets are {keys[:200]}, and names "
            "such as red or B04 were wanted"
        )
    return {name: _best(keys, item, location) for name, keys in sorted(found.items())}


def classification_asset(item: pystac.Item, location: str) -> RasterAsset | None:
    """Find the scene classification layer (SCL); None when the item has none.

    Raises
    ------
    SceneError
        When it cannot be used.
    """
    keys = [key for key in item.assets if _CLASSIFICATION.fullmatch(key)]
    return _best(keys, item, location) if keys else None


def _band_of(key: str, asset: pystac.Asset) -> str | None:
    """Return the band of an asset by its description or else its key; None for other assets."""
    kind = asset.media_type or "image/"
    if kind in _PICTURES or not kind.startswith("image/") or _is_zarr(asset):
        return None
    described = _entries(asset.extra_fields, "bands") or _entries(asset.extra_fields, "eo:bands")
    if len(described) > 1:
        return None
    fields = ("name", "eo:common_name", "common_name")
    names = [band.get(field) for band in described for field in fields]
    known = (band_name(name) for name in [*names, key] if isinstance(name, str))
    return next(filter(None, known), None)


def _is_zarr(asset: pystac.Asset) -> bool:
    is_inside = re.search(r"\.zarr(?:$|[/.])", asset.href.partition("?")[0], re.IGNORECASE)
    return "zarr" in (asset.media_type or "") or is_inside is not None


def _best(keys: list[str], item: pystac.Item, location: str) -> RasterAsset:
    def preference(key: str) -> tuple[float, bool, str]:
        asset = item.assets[key]
        name = asset.href.partition("#")[0].partition("?")[0].lower()
        is_tiff = "tiff" in (asset.media_type or "") or name.endswith((".tif", ".tiff"))
        return next(_resolutions(key, asset), math.inf), not is_tiff, key

    return _raster(min(keys, key=preference), item, location)


def _resolutions(key: str, asset: pystac.Asset) -> Iterator[float]:
    """Yield the stated pixel sizes, m, most reliable first: ``gsd`` may be the instrument's."""
    fields = asset.extra_fields
    stated: list[Any] = [
        band.get(name)
        for band in _entries(fields, "raster:bands") + _entries(fields, "bands")
        for name in ("spatial_resolution", "raster:spatial_resolution")
    ]
    transform = fields.get("proj:transform")
    stated += transform[:1] if isinstance(transform, list) else []
    if found := _RESOLUTION.search(key):
        stated.append(int(found.group(1)))
    stated.append(fields.get("gsd"))
    return (float(value) for value in stated if is_real(value) and value > 0)


def _raster(key: str, item: pystac.Item, location: str) -> RasterAsset:
    asset, what = item.assets[key], f"{location}: asset {key}"
    fields = asset.extra_fields
    # STAC 1.1 states these values in `bands`, or once for all bands of the asset.
    plain = _entries(fields, "raster:bands")[:1]
    prefixed = [*_entries(fields, "bands")[:1], fields]

    def stated(name: str, later_name: str) -> float | None:
        values = [band.get(name) for band in plain] + [band.get(later_name) for band in prefixed]
        value = next((value for value in values if value is not None), None)
        return None if value is None else _number(value, f"{what}: {name}")

    scale, offset = stated("scale", "raster:scale"), stated("offset", "raster:offset")
    if scale == 0 or not (is_real(scale or 1) and is_real(offset or 0)):
        raise SceneError(f"{what}: has scale {scale} and offset {offset}; real numbers were wanted")
    path = _gdal_path(asset.href, location, what)
    return RasterAsset(key, path, scale, offset, stated("nodata", "nodata"), fields)


def is_real(value: Any) -> bool:
    """Return whether a JSON value is a finite number that fits into a float.

    Examples
    --------
    >>> is_real(2), is_real(0.5), is_real(10**400), is_real(float("nan")), is_real("2")
    (True, True, False, False, False)
    """
    return isinstance(value, int | float) and -_LARGEST < value < _LARGEST


def _entries(fields: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    value = fields.get(name)
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _number(value: Any, what: str) -> float:
    # nodata may be the text "nan".
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise SceneError(f"{what} is {str(value)[:40]!r}; a number was wanted")


def _gdal_path(href: str, location: str, what: str) -> str:
    """Return the path for GDAL of a link ``href`` in an item at ``location``.

    An item from the web must not refer to files of this machine, and no item to GDAL's virtual file
    systems, which could open anything.
    """
    on_the_web = is_web(location)
    try:
        target = urljoin(location, href) if on_the_web else href
        parts = urlsplit(target)
    except ValueError:
        raise SceneError(f"{what} is at {href[:200]}, which is no URL") from None
    if is_web(target):
        if not is_http(target):
            raise SceneError(f"{what} is at {href[:200]}, which is no URL")
        try:
            refuse_inward(target, location)
        except InputError as error:
            raise SceneError(f"{what}: {error}") from error
    if prefix := _GDAL_PREFIXES.get(parts.scheme):
        return prefix + (target if prefix == "/vsicurl/" else parts.netloc + parts.path)
    if on_the_web or parts.scheme not in {"", "file"} or parts.netloc not in {"", "localhost"}:
        raise SceneError(
            f"{what} is at {href[:200]}; a URL of {', '.join(_GDAL_PREFIXES)} was wanted"
        )
    path = Path(location).absolute().parent / (unquote(parts.path) if parts.scheme else href)
    if str(path).startswith("/vsi"):
        raise SceneError(f"{what} is at {str(path)[:200]}; a file or a URL was wanted")
    return str(path)
