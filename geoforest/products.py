"""From stored probability to the files a user opens: rasters, polygons, report."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio

from geoforest import __version__
from geoforest.area import PixelTable
from geoforest.config import MapSettings, Product
from geoforest.errors import ReadError
from geoforest.grid import Window
from geoforest.io.cog import read_strips, write_mask, write_probability
from geoforest.io.geopackage import write_geopackage
from geoforest.job import Job
from geoforest.names import (
    MASK_NAME,
    POLYGONS_NAME,
    PROBABILITY_NAME,
    REPORT_NAME,
    SUMMARY_NAME,
)
from geoforest.polygons import Polygons, vectorize
from geoforest.prediction import Prediction, Progress
from geoforest.stitch import mask_from_probability
from geoforest.timing import Clock
from geoforest.types import FOREST, NO_OBSERVATION, OTHER, Array, Mask
from geoforest.workspace import Workspace

if TYPE_CHECKING:
    from geoforest.report.summary import Summary

_NAMES: dict[Product, str] = {
    "mask": MASK_NAME,
    "probability": PROBABILITY_NAME,
    "polygons": POLYGONS_NAME,
    "report": REPORT_NAME,
}
_CODES = (OTHER, FOREST, NO_OBSERVATION)


@dataclass
class MaskTotals:
    """Pixels and hectares of each mask code."""

    pixels: dict[int, int] = field(default_factory=lambda: dict.fromkeys(_CODES, 0))
    hectares: dict[int, float] = field(default_factory=lambda: dict.fromkeys(_CODES, 0.0))

    def add(self, mask: Mask, area_m2: Array) -> None:
        """Count a piece of the mask in, with the ground area of each of its pixels."""
        flat = mask.ravel()
        pixels = np.bincount(flat, minlength=256)
        area = np.bincount(flat, weights=area_m2.ravel(), minlength=256)
        for code in _CODES:
            self.pixels[code] += int(pixels[code])
            self.hectares[code] += float(area[code]) / 1e4


@dataclass(frozen=True)
class Made:
    """What was made of the stored probability.

    Attributes
    ----------
    threshold
        The one that was applied.
    totals
        Of the mask.
    polygons
        None when none were asked for.
    probability
        The stored-probability raster, staged or finished earlier.
    mask
        The mask raster, staged.
    quicklook
        PNG for the report; None when none was asked for.
    """

    threshold: float
    totals: MaskTotals
    polygons: Polygons | None
    probability: Path
    mask: Path
    quicklook: bytes | None = None


def with_earlier(settings: MapSettings, workspace: Workspace) -> MapSettings:
    """Ask for the products that an earlier run of the same job left, too.

    They are made anew, so that all files in a folder agree, and none is lost by asking for others.
    """
    outputs = (workspace.earlier_run() or {}).get("outputs", {})
    earlier = {product for product, name in _NAMES.items() if name in outputs}
    return settings.model_copy(update={"products": settings.products | earlier})


def asked(job: Job, settings: MapSettings) -> dict[str, Any]:
    """All that the products depend on besides the job, as it stands in ``job.json``."""
    return {
        "geoforest": __version__,
        "model": job.bundle.model_id,
        "scene_id": job.scene.scene_id,
        "threshold": _threshold(job, settings),
        "min_area_ha": settings.min_area_ha,
        "max_vertices": settings.max_vertices,
        "products": sorted(settings.products),
    }


def _threshold(job: Job, settings: MapSettings) -> float:
    return job.bundle.card.threshold if settings.threshold is None else settings.threshold


def make(
    job: Job,
    workspace: Workspace,
    settings: MapSettings,
    prediction: Prediction,
    clock: Clock,
    progress: Progress,
) -> Made:
    """Stage the rasters and polygons of a predicted scene.

    Returns
    -------
    Made
    """
    threshold = _threshold(job, settings)
    progress("rasters", 0, 2)
    with clock.stage("probability"):
        probability = _stage_probability(job, workspace, prediction)
    progress("rasters", 1, 2)
    totals = MaskTotals()
    mask = workspace.staging / MASK_NAME
    with clock.stage("mask"):
        scene = job.scene
        table = PixelTable.build(scene.transform, scene.crs, scene.shape)
        write_mask(
            mask,
            _masked(probability, threshold, table, totals),
            shape=scene.shape,
            crs=scene.crs,
            transform=scene.transform,
            tags=_tags(job, "forest_mask", THRESHOLD=repr(threshold)),
        )
    progress("rasters", 2, 2)
    polygons = None
    if "polygons" in settings.products:
        progress("polygons", 0, 1)
        with clock.stage("polygons"):
            polygons = vectorize(
                _read_whole(mask),
                transform=job.scene.transform,
                crs=job.scene.crs,
                probability=_read_whole(probability),
                min_area_ha=settings.min_area_ha,
                max_vertices=settings.max_vertices,
                attributes={
                    "scene_id": job.scene.scene_id,
                    "acquired": job.scene.acquired,
                    "model": job.bundle.model_id,
                    "threshold": threshold,
                },
            )
            write_geopackage(polygons.frame, workspace.staging / POLYGONS_NAME)
        progress("polygons", 1, 1)
    quicklook = None
    if "report" in settings.products:
        from geoforest.report.html import scene_quicklook

        with clock.stage("report"):
            frame = polygons.frame if polygons else None
            quicklook = scene_quicklook(job.scene, probability, mask, frame)
    return Made(threshold, totals, polygons, probability, mask, quicklook)


def finish(
    job: Job,
    workspace: Workspace,
    settings: MapSettings,
    prediction: Prediction,
    made: Made,
    summary: Summary,
) -> None:
    """Write the texts, drop what was not asked for, and publish all of it in one step."""
    from geoforest.io.stac import write_item
    from geoforest.report.html import write_report

    staging = workspace.staging
    (staging / SUMMARY_NAME).write_text(summary.to_json(), encoding="utf-8")
    if made.quicklook is not None:
        write_report(staging / REPORT_NAME, job, made, summary)
    if "mask" not in settings.products:
        made.mask.unlink()
        Path(f"{made.mask}.aux.xml").unlink()
    if "probability" not in settings.products:
        (staging / PROBABILITY_NAME).unlink(missing_ok=True)
    write_item(staging, job, made)
    workspace.publish(
        {
            **workspace.record,
            "geoforest": __version__,
            "created": summary.created,
            "scene_id": job.scene.scene_id,
            "model": job.bundle.model_id,
            "threshold": made.threshold,
            "settings": settings.model_dump(mode="json"),
            "asked": asked(job, settings),
            "prediction": prediction.facts(),
        }
    )


def _stage_probability(job: Job, workspace: Workspace, prediction: Prediction) -> Path:
    target = workspace.staging / PROBABILITY_NAME
    tags = _tags(job, "forest_probability", MODEL_THRESHOLD=repr(job.bundle.card.threshold))
    if prediction.finished is None:
        blocks = _stored_blocks(job, workspace, prediction.gaps)
    elif _has_tags(prediction.finished, tags):
        try:
            os.link(prediction.finished, target)
        except OSError:  # a file system without hard links
            shutil.copyfile(prediction.finished, target)
        return target
    else:  # the model has got another name or threshold since, and no other weights
        blocks = read_strips(prediction.finished)
    scene = job.scene
    write_probability(
        target, blocks, shape=scene.shape, crs=scene.crs, transform=scene.transform, tags=tags
    )
    return target


def _has_tags(path: Path, tags: Mapping[str, str]) -> bool:
    with rasterio.open(path) as source:
        return source.tags().items() >= tags.items()


def _stored_blocks(
    job: Job, workspace: Workspace, gaps: Collection[str]
) -> Iterator[tuple[Window, Array]]:
    planned = {shard.name for shard in job.plan()}.difference(gaps)
    for shard in job.grid.shards():
        if shard.name not in planned:
            yield shard.extent, np.full(shard.extent.shape, NO_OBSERVATION, np.uint8)
            continue
        loaded = workspace.store.load(shard)
        if loaded is None:
            raise ReadError(
                f"{workspace.store.path(shard)}: a finished shard has been damaged or removed; "
                "the same command makes it again"
            )
        yield shard.extent, loaded[0]


def _masked(
    probability: Path, threshold: float, table: PixelTable, totals: MaskTotals
) -> Iterator[tuple[Window, Mask]]:
    for window, stored in read_strips(probability):
        mask = mask_from_probability(stored, threshold)
        totals.add(mask, table.area_m2(*window.slices))
        yield window, mask


def _read_whole(path: Path) -> Array:
    with rasterio.open(path) as source:
        values: Array = source.read(1)
    return values


def _tags(job: Job, product: str, **more: str) -> Mapping[str, str]:
    """Metadata of a raster: nothing that differs between two runs of one job."""
    tags = {
        "GEOFOREST_PRODUCT": product,
        "SCENE_ID": job.scene.scene_id,
        "MODEL": job.bundle.model_id,
        "TIFFTAG_SOFTWARE": f"geoforest {__version__}",
        **more,
    }
    if job.scene.acquired is not None:
        tags["ACQUIRED"] = job.scene.acquired.isoformat()
    return tags
