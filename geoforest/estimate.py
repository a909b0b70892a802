"""What a map job would take: windows, shards, disk and time, without writing anything."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from geoforest.cluster import Cluster
from geoforest.config import MapSettings, checked
from geoforest.job import make_job, resolve_runtime
from geoforest.models.registry import open_model

_TRIALS = 3


def estimate(scene: str | Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Plan a job and time a few windows with its model.

    Returns
    -------
    dict
        scene_id, window, windows, shards, disk_mb (upper bound), windows_per_second, seconds.

    Raises
    ------
    InputError
        As for :func:`geoforest.map_scene`.
    """
    chosen = checked(MapSettings, settings)
    bundle = open_model(chosen.model)
    runtime = resolve_runtime(chosen, bundle, Cluster(chosen.workers).threads)
    job = make_job(scene, chosen, bundle, runtime)
    shards = job.plan()
    windows = sum(job.windows(shard) for shard in shards)
    predictor = job.load_predictor(job)
    dn = np.zeros(
        (job.runtime.batch_size, len(job.scene.bands), job.grid.window, job.grid.window),
        job.scene.dtype,
    )
    predictor(dn)
    start = time.perf_counter()
    for _ in range(_TRIALS):
        predictor(dn)
    rate = _TRIALS * job.runtime.batch_size / (time.perf_counter() - start)
    pixels = job.scene.shape[0] * job.scene.shape[1]
    return {
        "scene_id": job.scene.scene_id,
        "window": job.grid.window,
        "halo": job.grid.halo,
        "windows": windows,
        "shards": len(shards),
        # Shards, a flat copy and the COG with overviews of two rasters, uncompressed at worst.
        "disk_mb": round(pixels * (1 + 2 * (1 + 4 / 3)) / 1e6, 1),
        "windows_per_second": round(rate, 3),
        "seconds": round(windows / rate, 3),
    }
