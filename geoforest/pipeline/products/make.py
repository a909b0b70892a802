"""From stored probability to the files a user opens: rasters, polygons, report."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio

from geoforest._version import __version__
from geoforest.arrays.area import PixelTable
from geoforest.arrays.grid import Window, preview_lattice
from geoforest.arrays.polygons.polygons import PolygonCounts, PolygonStream
from geoforest.arrays.seams import Seams, Steps
from geoforest.arrays.stitch import mask_from_probability
from geoforest.compute.clock import Clock
from geoforest.errors import ReadError
from geoforest.io.cog import CogWriter, MaskWriter, ProbabilityWriter, read_strips
from geoforest.io.files import without_secrets
from geoforest.io.geopackage import write_geopackage
from geoforest.io.names import (
    MASK_NAME,
    POLYGONS_NAME,
    PROBABILITY_NAME,
    PROJECT_NAME,
    QUICKLOOK_NAME,
    REPORT_NAME,
    SUMMARY_NAME,
    UNITS_NAME,
)
from geoforest.io.tables import csv_text
from geoforest.maps.units.areas import UnitAreas, areas_on
from geoforest.maps.units.read import Units
from geoforest.maps.units.zonal import open_mask
from geoforest.pipeline.job import Job
from geoforest.pipeline.ledger import Prediction
from geoforest.pipeline.products.halo_test import HaloTest, check_halo
from geoforest.pipeline.products.patch_sizes import PatchSizes
from geoforest.pipeline.settings import MapSettings, Product
from geoforest.pipeline.workspace import Workspace
from geoforest.report.sketch import Sketch
from geoforest.scenes.scene import Scene
from geoforest.types import (
    FOREST,
    NO_OBSERVATION,
    OTHER,
    Array,
    Mask,
    Progress,
    StoredProbability,
    Valid,
)

if TYPE_CHECKING:
    from geoforest.pipeline.products.summary import Summary
    from geoforest.report.layers import Layer

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

    def add(self, mask: Mask, table: PixelTable, window: Window) -> None:
        """Count a piece of the mask in, with the ground area of its pixels."""
        sums = table.sums(mask, NO_OBSERVATION + 1, at=(window.row_off, window.col_off))
        for code in _CODES:
            self.pixels[code] += int(sums.pixels[code])
            self.hectares[code] += float(sums.area[code]) / 1e4


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
        Their accounting; None when none were asked for.
    probability
        The stored-probability raster, staged or finished earlier.
    mask
        The mask raster, staged.
    seams
        Whether the lattice of cores shows.
    patch_sizes
        Patches by size; None when no polygons were asked for.
    halo_test
        None when none was asked for.
    layers
        Pictures for the report; None when none was asked for.
    units
        Forest in units; None when none were asked for.
    """

    threshold: float
    totals: MaskTotals
    polygons: PolygonCounts | None
    probability: Path
    mask: Path
    seams: Seams
    patch_sizes: list[dict[str, Any]] | None = None
    halo_test: HaloTest | None = None
    layers: list[Layer] | None = None
    units: UnitAreas | None = None


def with_earlier(settings: MapSettings, workspace: Workspace) -> MapSettings:
    """Ask for the products that an earlier run of the same job left, too.

    They are made anew, so that all files in a folder agree, and none is lost by asking for others.
    """
    outputs = (workspace.earlier_run() or {}).get("outputs", {})
    earlier = {product for product, name in _NAMES.items() if name in outputs}
    return settings.model_copy(update={"products": settings.products | earlier})


def asked(job: Job, settings: MapSettings, units: Units | None) -> dict[str, Any]:
    """All that the products depend on besides the job, as it stands in ``job.json``."""
    return {
        "geoforest": __version__,
        "model": job.bundle.model_id,
        "scene_id": job.scene.scene_id,
        "threshold": _threshold(job, settings),
        "min_area_ha": settings.min_area_ha,
        "max_vertices": settings.max_vertices,
        "check_halo": settings.check_halo,
        "products": sorted(settings.products),
        "units": None if units is None else units.digest,
    }


def _threshold(job: Job, settings: MapSettings) -> float:
    return job.bundle.card.threshold if settings.threshold is None else settings.threshold


def make(
    job: Job,
    workspace: Workspace,
    settings: MapSettings,
    units: Units | None,
    prediction: Prediction,
    clock: Clock,
    progress: Progress,
) -> Made:
    """Stage the rasters and polygons of a predicted scene.

    Returns
    -------
    Made
    """
    scene, threshold = job.scene, _threshold(job, settings)
    mask = _Raster(
        workspace.staging / MASK_NAME,
        MaskWriter,
        scene,
        _tags(job, "forest_mask", THRESHOLD=repr(threshold)),
    )
    probability = _Raster(
        workspace.staging / PROBABILITY_NAME,
        ProbabilityWriter,
        scene,
        _tags(job, "forest_probability", MODEL_THRESHOLD=repr(job.bundle.card.threshold)),
    )
    table = PixelTable.build(scene.transform, scene.crs, scene.shape)
    totals, steps = MaskTotals(), Steps(scene.shape)
    polygons, sketch, sizes = None, Sketch(scene), PatchSizes()
    with ExitStack() as held:
        rasters = [mask]
        if prediction.finished is not None and _has_tags(prediction.finished, probability.tags):
            _link(prediction.finished, probability.path)
        else:
            rasters.append(probability)
        for raster in rasters:
            held.enter_context(raster.writer)
        progress("rasters", 0, 1)
        stream = None
        if "polygons" in settings.products:
            stream = held.enter_context(_polygon_stream(job, workspace, settings))
        rows = _Rows(scene.shape[1])
        with clock.stage("mask"):
            for window, stored in _stored_blocks(job, workspace, prediction):
                codes = mask_from_probability(stored, threshold)
                totals.add(codes, table, window)
                for raster, values in zip(rasters, (codes, stored), strict=False):
                    raster.writer.write(window, values)
                if rows.fill(window, codes, stored):
                    steps.add(rows.probability)
                    if stream is not None:
                        stream.add(rows.mask, rows.probability)
        progress("rasters", 1, 1)
        # Compression, overviews and tracing run outside of Python's lock, beside each other.
        with clock.stage("products"), ThreadPoolExecutor(len(rasters)) as threads:
            finishing = [threads.submit(raster.finish, clock) for raster in rasters]
            if stream is not None:
                progress("polygons", 0, 1)
                with clock.stage("polygons"):
                    frames = map(sizes.seen, stream.frames())
                    if "report" in settings.products:
                        frames = map(sketch.seen, frames)
                    write_geopackage(frames, workspace.staging / POLYGONS_NAME)
                    polygons = stream.counts()
                progress("polygons", 1, 1)
            for done in finishing:
                done.result()
    halo_test = None
    if settings.check_halo:
        progress("halo", 0, 1)
        with clock.stage("halo"):
            halo_test = check_halo(job, job.load_predictor(job), probability.path, threshold)
        progress("halo", 1, 1)
    areas = None
    if units is not None:
        with clock.stage("units"):
            areas = areas_on([open_mask(mask.path)], units)
    layers = None
    if "report" in settings.products:
        from geoforest.report.layers import scene_layers
        from geoforest.report.quicklook import decimated, write_quicklook

        with clock.stage("report"):
            seen = _preview(job, workspace, prediction) or decimated(scene)
            write_quicklook(workspace.staging / QUICKLOOK_NAME, scene, *seen)
            layers = scene_layers(scene, probability.path, mask.path, sketch, seen)
    return Made(
        threshold=threshold,
        totals=totals,
        polygons=polygons,
        probability=probability.path,
        mask=mask.path,
        seams=steps.seams(job.grid.core),
        patch_sizes=None if polygons is None else sizes.table(),
        halo_test=halo_test,
        layers=layers,
        units=areas,
    )


class _Raster:
    """A raster that is staged, and its metadata."""

    def __init__(
        self,
        path: Path,
        kind: type[MaskWriter | ProbabilityWriter],
        scene: Scene,
        tags: Mapping[str, str],
    ) -> None:
        self.path, self.tags = path, tags
        self._open = partial(
            kind, path, shape=scene.shape, crs=scene.crs, transform=scene.transform, tags=tags
        )

    @cached_property
    def writer(self) -> CogWriter:
        return self._open()

    def finish(self, clock: Clock) -> None:
        with clock.stage(f"{self.path.stem} cog"):
            self.writer.finish()


class _Rows:
    """Whole rows of both rasters, put together from windows that come row by row."""

    def __init__(self, n_cols: int) -> None:
        self._n_cols, self._left = n_cols, 0

    def fill(self, window: Window, mask: Mask, probability: StoredProbability) -> bool:
        """Take a window; True when its rows are complete."""
        if not self._left:
            # New arrays each time: the old ones are still being read.
            shape = window.height, self._n_cols
            self.mask, self.probability = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
            self._left = self._n_cols
        cols = window.slices[1]
        self.mask[:, cols], self.probability[:, cols] = mask, probability
        self._left -= window.width
        return not self._left


def _polygon_stream(job: Job, workspace: Workspace, settings: MapSettings) -> PolygonStream:
    scene = job.scene
    return PolygonStream(
        scene.shape,
        transform=scene.transform,
        crs=scene.crs,
        min_area_ha=settings.min_area_ha,
        max_vertices=settings.max_vertices,
        attributes={
            "scene_id": scene.scene_id,
            "acquired": scene.acquired,
            "model": job.bundle.model_id,
            "threshold": _threshold(job, settings),
        },
        folder=workspace.store.folder,
    )


def finish(
    job: Job,
    workspace: Workspace,
    settings: MapSettings,
    units: Units | None,
    prediction: Prediction,
    made: Made,
    summary: Summary,
) -> None:
    """Write the texts, drop what was not asked for, and publish all of it in one step."""
    from geoforest.maps.units.page import unit_table
    from geoforest.pipeline.products.page import write_report
    from geoforest.pipeline.products.qgis import write_project, write_styles
    from geoforest.pipeline.products.stac_item import write_item

    staging = workspace.staging
    (staging / SUMMARY_NAME).write_text(summary.to_json(), encoding="utf-8")
    if summary.units:
        (staging / UNITS_NAME).write_text(csv_text(summary.units), encoding="utf-8")
    if made.layers is not None:
        table = unit_table(units, made.units) if units and made.units else None
        write_report(staging / REPORT_NAME, job, prediction, made, summary, table)
    if "mask" not in settings.products:
        made.mask.unlink()
        Path(f"{made.mask}.aux.xml").unlink()
    if "probability" not in settings.products:
        (staging / PROBABILITY_NAME).unlink(missing_ok=True)
    write_styles(staging)
    if made.layers is not None:
        write_project(staging / PROJECT_NAME, job.scene)
    write_item(staging, job, made)
    workspace.publish(
        {
            **workspace.record,
            "geoforest": __version__,
            "created": summary.created,
            "scene_id": job.scene.scene_id,
            "model": job.bundle.model_id,
            "threshold": made.threshold,
            "settings": {
                **settings.model_dump(mode="json"),
                "model": without_secrets(settings.model),
            },
            "asked": asked(job, settings, units),
            "prediction": prediction.facts(),
        }
    )


def _has_tags(path: Path, tags: Mapping[str, str]) -> bool:
    with rasterio.open(path) as source:
        return source.tags().items() >= tags.items()


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, target)


def _stored_blocks(
    job: Job, workspace: Workspace, prediction: Prediction
) -> Iterator[tuple[Window, StoredProbability]]:
    """Give the stored probability in pieces that cover the scene once."""
    if prediction.finished is not None:
        yield from read_strips(prediction.finished)
        return
    planned = {shard.name for shard in job.plan()}.difference(prediction.gaps)
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


def _preview(job: Job, workspace: Workspace, prediction: Prediction) -> tuple[Array, Valid] | None:
    """Put together what the shards left of the scene for a picture; None where some is missing."""
    if prediction.finished is not None:
        return None
    rows, cols = preview_lattice(job.scene.shape)
    dn = np.zeros((len(job.scene.bands), len(rows), len(cols)), job.scene.dtype)
    valid = np.zeros(dn.shape[1:], np.bool_)
    for shard in job.plan():
        if shard.name in prediction.gaps:
            continue
        left = workspace.store.load_preview(shard)
        place = shard.extent.cut(rows, cols)
        if left is None or left[0].shape != dn[:, *place].shape:
            return None
        dn[:, *place], valid[place] = left
    return dn, valid


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
