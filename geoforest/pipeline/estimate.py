"""Estimate windows, shards, disk space and time of a map job, without writing anything."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geoforest.errors import GeoforestError, checked
from geoforest.io.remote import shown
from geoforest.maps.units.areas import check_touched
from geoforest.maps.units.read import asked_units
from geoforest.pipeline.run import SceneFailure, check_new, named_once
from geoforest.pipeline.settings import MapSettings
from geoforest.pipeline.setup import Setup

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from geoforest.arrays.georef import GeoRef
    from geoforest.pipeline.job import Job
    from geoforest.pipeline.runtime import Runtime

_TRIALS = 3


def estimate(
    scenes: Iterable[str | Path], settings: dict[str, Any]
) -> Iterator[dict[str, Any] | SceneFailure]:
    """Plan jobs and time a few windows with their model.

    Yields
    ------
    dict or SceneFailure
        For each scene: scene_id, window, halo, windows, shards, disk_mb (upper bound),
        windows_per_second (of all workers), seconds. A scene that cannot be mapped does not stop
        the others, as in :func:`geoforest.map_scenes`.

    Raises
    ------
    InputError
        As for :func:`geoforest.map_scenes`.
    """
    chosen = checked(MapSettings, settings)
    paths = named_once(scenes, chosen)
    units = asked_units(chosen.zones, chosen.by)
    setup = Setup.of(chosen)
    begun: dict[str, str] = {}
    seen: dict[Path, GeoRef] = {}
    runtime: Runtime | None = None
    rate = 0.0
    for path in paths:
        name = shown(str(path))
        try:
            draft = setup.draft(path)
            check_new(draft.scene.scene_id, name, begun)
        except GeoforestError as error:
            yield SceneFailure(name, error)
            continue
        seen[Path(draft.scene.scene_id)] = draft.scene.georef
        # An unavailable runtime is not this scene's fault.
        runtime = runtime or setup.local_runtime()
        try:
            job = draft.job(runtime, base_mb=setup.base_mb)
        except GeoforestError as error:
            yield SceneFailure(name, error)
            continue
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
    if units is not None and seen:
        check_touched(units, seen)


def _windows_per_second(job: Job) -> float:
    predictor = job.load_predictor(job)
    size, side = job.runtime.batch_size, job.grid.window
    dn = np.zeros((size, len(job.scene.bands), side, side), job.scene.dtype)
    predictor(dn)
    start = time.perf_counter()
    for _ in range(_TRIALS):
        predictor(dn)
    return _TRIALS * size / (time.perf_counter() - start)
