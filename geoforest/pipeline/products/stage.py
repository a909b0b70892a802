"""Make the files that a user opens from stored probability, in the staging folder.

Four passes: write rasters and find patches; compress rasters while polygons are traced; check the
map; draw it.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np

from geoforest.arrays.area import PixelTable
from geoforest.arrays.grid import preview_lattice
from geoforest.arrays.polygons.polygons import PolygonCounts, PolygonStream
from geoforest.arrays.seams import Seams, Steps
from geoforest.arrays.stitch import mask_from_probability
from geoforest.io.geopackage import write_geopackage
from geoforest.io.names import POLYGONS_NAME, QUICKLOOK_NAME
from geoforest.maps.units.areas import UnitAreas, areas_on
from geoforest.maps.units.zonal import open_mask
from geoforest.pipeline.products.halo_test import HaloTest, check_halo
from geoforest.pipeline.products.made import MapProducts, MaskTotals
from geoforest.pipeline.products.patch_sizes import PatchSizes
from geoforest.pipeline.products.rasters import MapRasters, WholeRows, stored_blocks
from geoforest.pipeline.products.unsure import UnsureCells
from geoforest.report.sketch import Sketch

if TYPE_CHECKING:
    from geoforest.pipeline.ledger import Prediction
    from geoforest.pipeline.products.insets import Inset
    from geoforest.pipeline.products.request import MapRun
    from geoforest.report.layers import Layer
    from geoforest.types import Array, Valid


def stage(run: MapRun, prediction: Prediction) -> MapProducts:
    """Make the rasters, polygons and pictures of a predicted scene in the staging folder.

    Parameters
    ----------
    run
        The map.
    prediction
        Totals over its shards.

    Raises
    ------
    ReadError
        When a finished shard was damaged or removed meanwhile.
    WriteError
        When a product cannot be written whole.
    """
    sketch, sizes = Sketch(run.job.scene), PatchSizes()
    with ExitStack() as held:
        rasters = held.enter_context(MapRasters(run, prediction))
        stream = None
        if "polygons" in run.settings.products:
            stream = held.enter_context(_polygon_stream(run))
        cells = UnsureCells(run.job.scene.shape, run.threshold)
        totals, seams = _write_rasters(run, prediction, rasters, stream, cells)
        with run.clock.stage("products"), rasters.finishing():
            polygons = None if stream is None else _write_polygons(run, stream, sizes, sketch)
    halo_test, units = _check(run, rasters)
    layers, insets = _draw(run, prediction, rasters, sketch, cells)
    return MapProducts(
        threshold=run.threshold,
        totals=totals,
        polygons=polygons,
        probability=rasters.probability,
        mask=rasters.mask,
        seams=seams,
        patch_sizes=None if polygons is None else sizes.table(),
        halo_test=halo_test,
        layers=layers,
        units=units,
        insets=insets,
    )


def _write_rasters(
    run: MapRun,
    prediction: Prediction,
    rasters: MapRasters,
    stream: PolygonStream | None,
    cells: UnsureCells,
) -> tuple[MaskTotals, Seams]:
    """Write mask and probability, count pixels, and find patches in whole rows."""
    scene = run.job.scene
    table = PixelTable.build(scene.georef)
    totals, steps, rows = MaskTotals(), Steps(scene.shape), WholeRows(scene.shape[1])
    run.progress("rasters", 0, 1)
    with run.clock.stage("mask"):
        for window, stored in stored_blocks(run, prediction):
            codes = mask_from_probability(stored, run.threshold)
            totals.add(codes, table, window)
            rasters.write(window, codes, stored)
            cells.add(window, stored)
            if rows.fill(window, codes, stored):
                steps.add(rows.probability)
                if stream is not None:
                    stream.add(rows.mask, rows.probability)
    run.progress("rasters", 1, 1)
    return totals, steps.seams(run.job.grid.core)


def _polygon_stream(run: MapRun) -> PolygonStream:
    scene, settings = run.job.scene, run.settings
    return PolygonStream(
        scene.georef,
        min_area_ha=settings.min_area_ha,
        max_vertices=settings.max_vertices,
        attributes={
            "scene_id": scene.scene_id,
            "acquired": scene.acquired,
            "model": run.job.bundle.model_id,
            "threshold": run.threshold,
        },
        folder=run.workspace.store.folder,
    )


def _write_polygons(
    run: MapRun, stream: PolygonStream, sizes: PatchSizes, sketch: Sketch
) -> PolygonCounts:
    """Trace and write polygons; count and sketch them on the way."""
    run.progress("polygons", 0, 1)
    with run.clock.stage("polygons"):
        frames = map(sizes.tap, stream.frames())
        if "report" in run.settings.products:
            frames = map(sketch.tap, frames)
        write_geopackage(frames, run.workspace.staging / POLYGONS_NAME)
    run.progress("polygons", 1, 1)
    return stream.counts()


def _check(run: MapRun, rasters: MapRasters) -> tuple[HaloTest | None, UnitAreas | None]:
    """Run the halo test, and count hectares by unit, if asked for."""
    halo_test = units = None
    if run.settings.check_halo:
        run.progress("halo", 0, 1)
        with run.clock.stage("halo"):
            predictor = run.job.load_predictor(run.job)
            halo_test = check_halo(run.job, predictor, rasters.probability, run.threshold)
        run.progress("halo", 1, 1)
    if run.units is not None:
        with run.clock.stage("units"):
            units = areas_on([open_mask(rasters.mask)], run.units)
    return halo_test, units


def _draw(
    run: MapRun,
    prediction: Prediction,
    rasters: MapRasters,
    sketch: Sketch,
    cells: UnsureCells,
) -> tuple[list[Layer] | None, list[Inset] | None]:
    """Draw the quicklook and the pictures of the page; return None twice without a page."""
    if "report" not in run.settings.products:
        return None, None
    # Imported here: they load drawing libraries, which a run without a page does not need.
    from geoforest.pipeline.products.insets import draw_insets
    from geoforest.report.layers import scene_layers
    from geoforest.report.quicklook import decimated, write_quicklook

    scene = run.job.scene
    with run.clock.stage("report"):
        seen = _preview(run, prediction) or decimated(scene)
        write_quicklook(run.workspace.staging / QUICKLOOK_NAME, scene, *seen)
        layers = scene_layers(scene, rasters.probability, rasters.mask, sketch, seen)
        insets = draw_insets(
            scene,
            cells.places(),
            probability=rasters.probability,
            mask=rasters.mask,
            threshold=run.threshold,
            seen=seen,
        )
        return layers, insets


def _preview(run: MapRun, prediction: Prediction) -> tuple[Array, Valid] | None:
    """Assemble the decimated scene that the shards stored; None when a part is missing."""
    if prediction.finished is not None:
        return None
    scene = run.job.scene
    rows, cols = preview_lattice(scene.shape)
    dn = np.zeros((len(scene.bands), len(rows), len(cols)), scene.dtype)
    valid = np.zeros(dn.shape[1:], np.bool_)
    for shard in run.job.plan():
        if shard.name in prediction.gaps:
            continue
        left = run.workspace.store.load_preview(shard)
        place = shard.extent.cut(rows, cols)
        if left is None or left[0].shape != dn[:, *place].shape:
            return None
        dn[:, *place], valid[place] = left
    return dn, valid
