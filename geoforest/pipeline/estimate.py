"""Estimate windows, shards, disk space and time of a map job, without writing anything."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geoforest.errors import checked
from geoforest.maps.units.areas import check_touched
from geoforest.maps.units.read import asked_units
from geoforest.pipeline.run import named_once
from geoforest.pipeline.settings import MapSettings
from geoforest.pipeline.setup import Setup

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from geoforest.pipeline.job import Job

_TRIALS = 3


def estimate(scenes: Iterable[str | Path], settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Plan jobs and time a few windows with their model.

    Yields
    ------
    dict
        For each scene: scene_id, window, halo, windows, shards, disk_mb (upper bound),
        windows_per_second (of all workers), seconds.

    Raises
    ------
    InputError
        As for :func:`geoforest.map_scenes`.
    """
    chosen = checked(MapSettings, settings)
    paths = named_once(scenes, chosen)
    units = asked_units(chosen.zones, chosen.by)
    setup = Setup.of(chosen)
    drafts = [setup.draft(path) for path in paths]
    if units is not None:
        scenes_by_id = {Path(draft.scene.scene_id): draft.scene.georef for draft in drafts}
        check_touched(units, scenes_by_id)
    runtime = setup.local_runtime()
    rate = 0.0
    for draft in drafts:
        job = draft.job(runtime, base_mb=setup.base_mb)
        # The rate depends on model and machine, not on the scene.
        rate = rate or _windows_per_second(job) * max(1, chosen.workers)
        shards = job.plan()
        windows = sum(job.windows(shard) for shard in shards)
        pixels = job.scene.shape[0] * job.scene.shape[1]
        yield {
            "scene_id": job.scene.scene_id,
            "window": job.grid.window,
            "halo": job.grid.halo,
            "windows": windows,
            "shards": len(shards),
            # Uncompressed: shards, and a flat copy and a COG with overviews of both rasters.
            "disk_mb": round(pixels * (1 + 2 * (1 + 4 / 3)) / 1e6, 1),
            "windows_per_second": round(rate, 3),
            "seconds": round(windows / rate, 3),
        }


def _windows_per_second(job: Job) -> float:
    predictor = job.load_predictor(job)
    size, side = job.runtime.batch_size, job.grid.window
    dn = np.zeros((size, len(job.scene.bands), side, side), job.scene.dtype)
    predictor(dn)
    start = time.perf_counter()
    for _ in range(_TRIALS):
        predictor(dn)
    return _TRIALS * size / (time.perf_counter() - start)
