"""A static STAC catalogue of a mosaic: one item per tile, with relative links."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pystac
import shapely
from pystac.extensions.projection import ProjectionExtension
from rasterio.warp import transform_geom

from geoforest._version import __version__
from geoforest.io.names import COUNT_NAME, MASK_NAME, PROBABILITY_NAME
from geoforest.io.storage import write_durably

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from geoforest.maps.mosaic.plan import TileJob

CATALOGUE_NAME: Final = "collection.json"
ITEM_NAME: Final = "item.json"

# First image of Sentinel-2A: STAC requires a time where none is known.
_FIRST_LIGHT = datetime(2015, 6, 27, tzinfo=UTC)
_ASSETS = {
    "forest_mask": MASK_NAME,
    "forest_probability": PROBABILITY_NAME,
    "observations": COUNT_NAME,
}


def write_catalogue(
    folder: Path, tiles: Mapping[str, tuple[TileJob, Path, Mapping[str, Any]]], title: str
) -> None:
    """Write ``collection.json``, and ``item.json`` in the folder of each tile.

    Parameters
    ----------
    folder
        Folder of the mosaic.
    tiles
        Job, folder and record of each tile, by name.
    title
        Title of the collection.
    """
    items = [_item(job, record) for job, _, record in tiles.values()]
    boxes = np.array([item.bbox for item in items])
    whole = [*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()]
    times = [_span(record) for _, _, record in tiles.values()]
    span: list[datetime | None] = [min(time[0] for time in times), max(time[1] for time in times)]
    collection = pystac.Collection(
        id="forest-mosaic",
        title=title,
        description="Forest cover (model): mask, probability and number of observations by tile.",
        license="other",
        extent=pystac.Extent(pystac.SpatialExtent([whole]), pystac.TemporalExtent([span])),
    )
    links = [{"rel": "root", "href": f"./{CATALOGUE_NAME}", "type": "application/json"}]
    for _, path, _ in tiles.values():
        href = f"./{(path / ITEM_NAME).relative_to(folder).as_posix()}"
        links.append({"rel": "item", "href": href, "type": "application/geo+json"})
    document = collection.to_dict(include_self_link=False, transform_hrefs=False)
    _write(folder / CATALOGUE_NAME, {**document, "links": links})
    for item, (_, path, _) in zip(items, tiles.values(), strict=True):
        up = "/".join([".."] * len(path.relative_to(folder).parts))
        document = item.to_dict(include_self_link=False, transform_hrefs=False)
        href = f"{up}/{CATALOGUE_NAME}"
        document["links"] = [
            {"rel": rel, "href": href, "type": "application/json"}
            for rel in ("root", "parent", "collection")
        ]
        document["collection"] = collection.id
        _write(path / ITEM_NAME, document)


def _item(job: TileJob, record: Mapping[str, Any]) -> pystac.Item:
    georef = job.georef
    outline = shapely.segmentize(shapely.box(*georef.bounds), 25_000)
    footprint = transform_geom(
        f"EPSG:{job.grid.zone.epsg}", "EPSG:4326", shapely.geometry.mapping(outline)
    )
    first, last = _span(record)
    properties = {
        "gsd": job.grid.size,
        "geoforest:version": __version__,
        "geoforest:model": job.model,
        "geoforest:threshold": job.threshold,
        "geoforest:rule": job.rule,
        "geoforest:scenes": record["scenes"],
    }
    item = pystac.Item(
        id=job.name,
        geometry=footprint,
        bbox=list(shapely.geometry.shape(footprint).bounds),
        datetime=first if first == last else None,
        start_datetime=first,
        end_datetime=last,
        properties=properties,
    )
    ProjectionExtension.ext(item, add_if_missing=True).apply(
        epsg=job.grid.zone.epsg, shape=list(georef.shape), transform=list(georef.transform)[:6]
    )
    for key, name in _ASSETS.items():
        item.add_asset(
            key, pystac.Asset(f"./{name}", media_type=pystac.MediaType.COG, roles=["data"])
        )
    return item


def _span(record: Mapping[str, Any]) -> tuple[datetime, datetime]:
    """Return first and last acquisition of a tile; the first of Sentinel-2A when unknown."""
    times = [datetime.fromisoformat(text).astimezone(UTC) for text in record["acquired"]]
    return min(times, default=_FIRST_LIGHT), max(times, default=_FIRST_LIGHT)


def _write(path: Path, document: dict[str, Any]) -> None:
    data = (json.dumps(document, indent=2) + "\n").encode()
    if not path.is_file() or path.read_bytes() != data:
        write_durably(path, data)
