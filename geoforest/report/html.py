"""``report.html``: one self-contained page for the reader of a map."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rasterio
from rasterio.enums import Resampling

from geoforest.grid import PREVIEW_PX
from geoforest.report.figures import quicklook
from geoforest.report.page import render
from geoforest.report.quicklook import decimated, visible
from geoforest.types import Array, Valid

if TYPE_CHECKING:
    from geoforest.job import Job
    from geoforest.products import Made
    from geoforest.report.sketch import Sketch
    from geoforest.report.summary import Summary
    from geoforest.scene import Scene


def write_report(path: Path, job: Job, made: Made, summary: Summary) -> None:
    """Render the report with a quicklook inside it; no network is needed to read it."""
    page = render(
        "report.html", summary=summary, card=job.bundle.card, picture=made.quicklook or b""
    )
    path.write_text(page, encoding="utf-8")


def scene_quicklook(
    scene: Scene,
    probability: Path,
    mask: Path,
    sketch: Sketch,
    seen: tuple[Array, Valid] | None = None,
) -> bytes:
    """PNG of scene, probability, mask and polygons, decimated to a page's size.

    ``seen`` are the pixels of the scene and where they are valid, where they are known already.
    """
    dn, valid = seen or decimated(scene)
    return quicklook(
        visible(scene, dn),
        valid,
        probability=_decimated(probability),
        mask=_decimated(mask),
        outlines=sketch.rings(),
        bounds=scene.bounds,
        title=scene.scene_id,
        metres=scene.crs.is_projected,
    )


def _decimated(path: Path) -> Array:
    with rasterio.open(path) as source:
        factor = max(1.0, max(source.shape) / PREVIEW_PX)
        shape = tuple(max(1, round(side / factor)) for side in source.shape)
        values: Array = source.read(1, out_shape=shape, resampling=Resampling.nearest)
    return values
