"""STAC items as the catalogues write them, with small rasters beside them, made by code."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pystac
import shapely
from rasterio.errors import NotGeoreferencedWarning

from geoforest.types import Array
from tests.helpers.synthetic import BANDS, UTM_20S, digital_numbers, write_raster

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
JP2 = "image/jp2"
COMMON = {"B04": "red", "B03": "green", "B02": "blue", "B08": "nir"}
ITEM_ID = "S2B_20LMR_20230813_0_L2A"
KEY = "se%2Fcret0123"


def sign(item: pystac.Item) -> None:
    """Sign what is on the web, as the Planetary Computer's package does."""
    for asset in item.assets.values():
        if asset.href.startswith("http"):
            asset.href += f"?sig={KEY}"


def earth_search(band: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Earth Search v1: common names as keys, each band as a COG and as ESA's JPEG 2000."""
    common = COMMON[band]
    numbers = {"nodata": 0, "spatial_resolution": 10, "scale": 0.0001, "offset": -0.1}
    asset = {
        "href": f"./{band}.tif",
        "type": COG,
        "eo:bands": [{"name": common, "common_name": common}],
        "raster:bands": [numbers],
        "gsd": 10,
    }
    yield f"{common}-jp2", {**asset, "href": f"s3://elsewhere/{band}.jp2", "type": JP2}
    yield common, asset
    if band == "B08":
        eo_bands = [{"name": "nir08", "common_name": "nir08"}]
        raster_bands = [{**numbers, "spatial_resolution": 20}]
        far = {"href": "far.tif", "eo:bands": eo_bands, "raster:bands": raster_bands}
        yield "nir08", {**asset, **far}


def planetary_computer(band: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Planetary Computer: band names as keys, and nothing about numbers."""
    eo_bands = [{"name": band, "common_name": COMMON[band]}]
    yield band, {"href": f"./{band}.tif", "type": COG, "gsd": 10, "eo:bands": eo_bands}


def data_space(band: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Copernicus Data Space: STAC 1.1, each band in several resolutions."""
    for gsd in (60, 20, 10):
        yield (
            f"{band}_{gsd}m",
            {
                "href": f"./{band}.tif" if gsd == 10 else f"s3://eodata/{band}_{gsd}m.jp2",
                "type": JP2,
                "gsd": 10,
                "proj:shape": [2745 * 40 // gsd, 2745 * 40 // gsd],
                "bands": [{"name": band, "eo:common_name": COMMON[band]}],
                "nodata": 0,
                "raster:scale": 0.0001,
                "raster:offset": -0.1,
            },
        )


def earth_search_v0(band: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Element 84's first catalogue."""
    eo_bands = [{"name": band, "common_name": COMMON[band]}]
    yield band, {"href": f"./{band}.tif", "type": COG, "eo:bands": eo_bands}


Naming = Callable[[str], Iterator[tuple[str, dict[str, Any]]]]
CLASSIFICATION = {
    earth_search: "scl",
    planetary_computer: "SCL",
    data_space: "SCL_20m",
    earth_search_v0: "SCL",
}
PROPERTIES: dict[Naming, dict[str, Any]] = {
    earth_search: {
        "s2:product_type": "S2MSI2A",
        "s2:processing_baseline": "05.09",
        "earthsearch:boa_offset_applied": True,
        "grid:code": "MGRS-20LMR",
        "s2:product_uri": "S2B_MSIL2A_20230813T142729_N0509_R053_T20LMR_20230813T190000.SAFE",
    },
    planetary_computer: {
        "s2:product_type": "S2MSI2A",
        "s2:processing_baseline": "05.09",
        "s2:mgrs_tile": "20LMR",
        "sat:relative_orbit": 53,
    },
    data_space: {
        "processing:level": "L2",
        "processing:version": "05.09",
        "grid:code": "MGRS-20LMR",
        "sat:relative_orbit": 53,
    },
    earth_search_v0: {
        "sentinel:processing_baseline": "05.09",
        "sentinel:boa_offset_applied": True,
        "sentinel:utm_zone": 20,
        "sentinel:latitude_band": "L",
        "sentinel:grid_square": "MR",
        "sat:relative_orbit": 53,
    },
}


def item(
    naming: Naming = earth_search, *, item_id: str = ITEM_ID, west: float = -63.0, **properties: Any
) -> dict[str, Any]:
    """Make a document; properties that are None are left out."""
    assets = {
        "thumbnail": {"href": "t.jpg", "type": "image/jpeg", "roles": ["thumbnail"]},
        "visual": {"href": "v.tif", "type": COG, "eo:bands": [{"name": "red"}, {"name": "green"}]},
        "product_metadata": {"href": "MTD_MSIL2A.xml", "type": "application/xml"},
    }
    for band in BANDS:
        assets |= dict(naming(band))
    footprint = shapely.box(west, -10.1, west + 0.1, -9.9)
    said = {
        "datetime": "2023-08-13T14:27:29.024000Z",
        "eo:cloud_cover": 12.5,
        **PROPERTIES[naming],
        **properties,
    }
    return {
        "type": "Feature",
        "stac_version": {data_space: "1.1.0", earth_search_v0: "1.0.0-beta.2"}.get(naming, "1.0.0"),
        "stac_extensions": [],
        "id": item_id,
        "collection": "sentinel-2-l2a",
        "geometry": shapely.geometry.mapping(footprint),
        "bbox": list(footprint.bounds),
        "properties": {name: value for name, value in said.items() if value is not None},
        # Links that lead nowhere, as in items that were taken from their catalogue.
        "links": [{"rel": rel, "href": "../gone.json"} for rel in ("root", "parent", "collection")],
        "assets": assets,
    }


def write_item(folder: Path, document: dict[str, Any]) -> Path:
    """Write a document into a folder, under its id."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{document['id']}.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def write_rasters(
    folder: Path, *, offset_applied: bool = True, dn: Array | None = None, crs: str | None = UTM_20S
) -> Array:
    """Write a file a band, such as ``B04.tif``, and return their digital numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    if dn is None:
        dn = digital_numbers((150, 190))
        dn[:, :40, :30] = 0
    if not offset_applied:
        dn = dn + 1000 * (dn > 0).astype(dn.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        for band, values in zip(BANDS, dn, strict=True):
            write_raster(folder / f"{band}.tif", values[None], descriptions=None, crs=crs)
    return dn


def write_scene(folder: Path, naming: Naming = earth_search, **properties: Any) -> Path:
    """Write an item and its rasters, with the offset taken away from them."""
    write_rasters(folder)
    return write_item(folder, item(naming, **properties))
