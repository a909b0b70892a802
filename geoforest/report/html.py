"""``report.html``: one self-contained page for the reader of a map."""

from __future__ import annotations

import base64
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
import numpy as np
import rasterio
from geoforest.report.figures import quicklook
from rasterio.enums import Resampling

from geoforest.io.geotiff import read_decimated
from geoforest.types import Array

if TYPE_CHECKING:
    from geoforest.job import Job
    from geoforest.products import Made
    from geoforest.report.summary import Summary

_QUICKLOOK_PX = 800


def write_report(path: Path, job: Job, made: Made, summary: Summary) -> None:
    """Render the report with a quicklook inside it; no network is needed to read it."""
    picture = base64.b64encode(scene_quicklook(job, made)).decode()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(
        (files("geoforest") / "report" / "report.html").read_text(encoding="utf-8")
    )
    path.write_text(
        template.render(summary=summary, card=job.bundle.card, picture=picture), encoding="utf-8"
    )


def scene_quicklook(job: Job, made: Made) -> bytes:
    """PNG of scene, probability, mask and polygons, decimated to a page's size."""
    import geopandas

    dn, valid = read_decimated(job.scene, _QUICKLOOK_PX)
    frame = (
        made.polygons.frame
        if made.polygons
        else geopandas.GeoDataFrame(geometry=[], crs=job.scene.crs)
    )
    names = [band.name for band in job.scene.bands]
    rgb = tuple(names.index(name) for name in ("B04", "B03", "B02") if name in names)
    scale = np.asarray(job.scene.scale)[:, None, None]
    offset = np.asarray(job.scene.offset)[:, None, None]
    return quicklook(
        dn * scale + offset,
        valid,
        probability=_decimated(made.probability),
        mask=_decimated(made.mask),
        polygons=frame,
        bounds=job.scene.bounds,
        title=job.scene.scene_id,
        rgb=rgb if len(rgb) == 3 else (0, 0, 0),
    )


def _decimated(path: Path) -> Array:
    with rasterio.open(path) as source:
        factor = max(1.0, max(source.shape) / _QUICKLOOK_PX)
        shape = tuple(max(1, round(side / factor)) for side in source.shape)
        values: Array = source.read(1, out_shape=shape, resampling=Resampling.nearest)
    return values
