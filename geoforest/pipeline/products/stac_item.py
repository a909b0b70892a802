"""Write the STAC item of a map: footprint, time, and files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pystac
import shapely
from pystac.extensions.projection import ProjectionExtension
from rasterio.warp import transform_geom

from geoforest._version import __version__
from geoforest.io.names import (
    MASK_NAME,
    POLYGONS_NAME,
    PROBABILITY_NAME,
    REPORT_NAME,
    SUMMARY_NAME,
    UNITS_NAME,
)

if TYPE_CHECKING:
    from pathlib import Path

    from geoforest.pipeline.job import Job
    from geoforest.pipeline.products.made import MapProducts

_ASSETS = {
    MASK_NAME: ("forest_mask", pystac.MediaType.COG, ["data"]),
    PROBABILITY_NAME: ("forest_probability", pystac.MediaType.COG, ["data"]),
    POLYGONS_NAME: ("forest_polygons", pystac.MediaType.GEOPACKAGE, ["data"]),
    SUMMARY_NAME: ("summary", pystac.MediaType.JSON, ["metadata"]),
    REPORT_NAME: ("report", pystac.MediaType.HTML, ["overview"]),
    UNITS_NAME: ("forest_by_unit", "text/csv", ["metadata"]),
}


def write_item(folder: Path, job: Job, products: MapProducts) -> None:
    """Write ``<scene id>.json`` beside the products in ``folder``, with relative paths of assets.

    STAC requires a time: without a time of acquisition nothing is written.
    """
    scene = job.scene
    if scene.acquired is None:
        return
    outline = shapely.segmentize(
        shapely.box(*scene.bounds), (scene.bounds[2] - scene.bounds[0]) / 8
    )
    footprint = transform_geom(scene.crs, "EPSG:4326", shapely.geometry.mapping(outline))
    item = pystac.Item(
        id=scene.scene_id,
        geometry=footprint,
        bbox=list(shapely.geometry.shape(footprint).bounds),
        datetime=scene.acquired,
        properties={
            "gsd": job.bundle.card.gsd_m,
            "geoforest:version": __version__,
            "geoforest:model": job.bundle.model_id,
            "geoforest:threshold": products.threshold,
        },
    )
    projection = ProjectionExtension.ext(item, add_if_missing=True)
    projection.apply(
        epsg=scene.crs.to_epsg(),
        wkt2=None if scene.crs.to_epsg() else scene.crs.to_wkt(),
        shape=list(scene.shape),
        transform=list(scene.transform)[:6],
    )
    for name, (key, media_type, roles) in _ASSETS.items():
        if (folder / name).exists():
            item.add_asset(key, pystac.Asset(f"./{name}", media_type=media_type, roles=roles))
    text = json.dumps(item.to_dict(include_self_link=False), indent=2) + "\n"
    (folder / f"{scene.scene_id}.json").write_text(text, encoding="utf-8")
