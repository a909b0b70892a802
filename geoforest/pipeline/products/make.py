"""From stored probability to the files a user opens: rasters, polygons, report."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np

from geoforest.arrays.area import PixelTable
from geoforest.arrays.grid import preview_lattice
from geoforest.arrays.polygons.polygons import PolygonStream
from geoforest.arrays.seams import Steps
from geoforest.arrays.stitch import mask_from_probability
from geoforest.compute.clock import Clock
from geoforest.io.cog import MaskWriter, ProbabilityWriter
from geoforest.io.geopackage import write_geopackage
from geoforest.io.names import (
    MASK_NAME,
    POLYGONS_NAME,
    PROBABILITY_NAME,
    QUICKLOOK_NAME,
)
from geoforest.maps.units.areas import areas_on
from geoforest.maps.units.read import Units
from geoforest.maps.units.zonal import open_mask
from geoforest.pipeline.job import Job
from geoforest.pipeline.ledger import Prediction
from geoforest.pipeline.products.halo_test import check_halo
from geoforest.pipeline.products.made import Made, MaskTotals
from geoforest.pipeline.products.patch_sizes import PatchSizes
from geoforest.pipeline.products.rasters import (
    _has_tags,
    _link,
    _Raster,
    _Rows,
    _stored_blocks,
    _tags,
)
from geoforest.pipeline.products.request import chosen_threshold
from geoforest.pipeline.settings import MapSettings
from geoforest.pipeline.workspace import Workspace
from geoforest.report.sketch import Sketch
from geoforest.types import (
    Array,
    Progress,
    Valid,
)


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
    scene, threshold = job.scene, chosen_threshold(job, settings)
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
            "threshold": chosen_threshold(job, settings),
        },
        folder=workspace.store.folder,
    )


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
