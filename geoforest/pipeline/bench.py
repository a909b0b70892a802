"""Measure how fast the main job is on this machine, and the share of the network alone."""

from __future__ import annotations

import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import rasterio
import torch
from affine import Affine

from geoforest._version import __version__
from geoforest.compute.machine import share_one_heap, usable_cores
from geoforest.errors import checked
from geoforest.models.bundle import save_bundle
from geoforest.models.registry import open_model
from geoforest.models.unet import build_unet
from geoforest.pipeline.run import map_scene
from geoforest.pipeline.settings import MapOptions, MapSettings
from geoforest.pipeline.setup import Setup
from geoforest.pipeline.shard import read_pixels
from geoforest.scenes.synthetic import BANDS, make_scene
from geoforest.types import Progress, quiet

if TYPE_CHECKING:
    from collections.abc import Callable

    from geoforest.pipeline.job import Job

_TILE_PX = 2240
_BLOCK_PX = 512
# Windows whose forward pass is timed, before the job and after it.
_SAMPLE = 48
_WARM_UP = 4
_SEED = 7


def run_bench(
    *,
    size: int = 4480,
    encoder: str = "se_resnet50",
    progress: Progress = quiet,
    **settings: Unpack[MapOptions],
) -> dict[str, Any]:
    """Map a generated scene, and time the network alone on windows of it in the same process.

    Parameters
    ----------
    size
        Side of the scene, pixels: 448 makes one window.
    encoder
        Encoder of a U-Net with random weights, which is as fast as a trained one; ignored when
        the settings name a ``model``.
    progress
        Called with a stage, how much of it is done, and how much there is.
    **settings
        Fields of :class:`geoforest.pipeline.settings.MapSettings`.

    Returns
    -------
    dict
        ``seconds`` by stage (read, predict, stitch and write are summed over shards, which
        overlap, inside ``shards``); ``forward_seconds``, of the network alone on as many windows;
        ``overhead_ratio``, of the job without its polygons to that, and
        ``overhead_ratio_with_polygons``; ``windows_per_second`` of both; ``peak_memory_mb``. With
        several workers the network alone is that of one of them, times their number.
    """
    with TemporaryDirectory(prefix="geoforest-bench-") as name:
        folder = Path(name)
        scene = folder / "scene.tif"
        _write_scene(scene, size)
        reference = settings.get("model") or _random_model(folder / "model", encoder)
        chosen = checked(MapSettings, {**settings, "model": reference})
        setup = Setup.of(chosen)
        runtime = setup.local_runtime()
        job = setup.draft(scene).job(runtime)
        # Before and after the job, since other programs may use the machine. Free it in between.
        spent = _in_a_thread(_forward_seconds, job)
        result = map_scene(scene, folder / "out", progress=progress, **chosen.model_dump())
        spent += _in_a_thread(_forward_seconds, job)
    summary = result.summary
    seconds = summary["seconds"]
    window_seconds = sum(spent) / len(spent) / runtime.batch_size / max(1, chosen.workers)
    alone = window_seconds * summary["windows"]
    # Polygons are made in parallel to the rasters, which take as long without them.
    rasters = max(spent for stage, spent in seconds.items() if stage.endswith(" cog"))
    whole = seconds["total"] - seconds["products"] + rasters
    return {
        "geoforest": __version__,
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": usable_cores(),
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "model": summary["model"],
        "size": size,
        "runtime": summary["runtime"],
        "workers": chosen.workers,
        "windows": summary["windows"],
        "shards": summary["shards"],
        "seconds": seconds,
        "forward_seconds": round(alone, 3),
        "overhead_ratio": round(whole / alone, 4),
        "overhead_ratio_with_polygons": round(seconds["total"] / alone, 4),
        "windows_per_second": round(summary["windows"] / whole, 3),
        "forward_windows_per_second": round(1 / window_seconds, 3),
        "peak_memory_mb": summary["peak_memory_mb"],
        "worker_peak_memory_mb": summary["worker_peak_memory_mb"],
    }


def _in_a_thread(function: Callable[[Job], list[float]], job: Job) -> list[float]:
    """Call in a thread that ends: kernels of a living thread would slow down those of the job."""
    share_one_heap()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(function, job).result()


def _forward_seconds(job: Job) -> list[float]:
    """Time the network alone per batch, on normalised batches in memory; return seconds."""
    predictor: Any = job.load_predictor(job)
    on_cuda = job.runtime.device.startswith("cuda")
    spent = []
    batches = _batches(job, predictor)
    for batch in [*batches[:_WARM_UP], *batches]:  # the first calls select kernels
        start = time.perf_counter()
        predictor.forward(batch)
        if on_cuda:
            torch.cuda.synchronize()
        spent.append(time.perf_counter() - start)
    return spent[-len(batches) :]


def _batches(job: Job, predictor: Any) -> list[Any]:
    """Prepare batches of windows from all over the scene."""
    cores = [core for shard in job.plan() for core in job.grid.cores(shard.extent)]
    step = max(1, len(cores) // _SAMPLE)
    windows = [
        read_pixels(job, job.grid.support(core)).for_network(job)
        for core in cores[::step][:_SAMPLE]
    ]
    size = job.runtime.batch_size
    batches = []
    for start in range(0, max(1, len(windows) - size + 1), size):
        group = (windows[start : start + size] * size)[:size]
        batches.append(
            predictor.prepare(
                np.stack([dn for dn, _ in group]),
                job.scene.scale,
                job.scene.offset,
                np.stack([valid for _, valid in group]),
            )
        )
    return batches


def _write_scene(path: Path, size: int) -> None:
    """Write a synthetic scene, repeated to ``size`` x ``size`` px, in blocks as in a COG."""
    tile = make_scene(_SEED, (max(256, min(size, _TILE_PX)),) * 2).dn
    side = tile.shape[1]
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=size,
        height=size,
        count=len(BANDS),
        dtype=tile.dtype,
        nodata=0,
        crs="EPSG:32720",
        transform=Affine(10, 0, 500_000, 0, -10, 8_900_000),
        tiled=True,
        blockxsize=_BLOCK_PX,
        blockysize=_BLOCK_PX,
        compress="deflate",
        zlevel=1,
        bigtiff="if_safer",
    ) as target:
        target.descriptions = BANDS
        columns = np.arange(size) % side
        for row in range(0, size, _BLOCK_PX):
            rows = np.arange(row, min(row + _BLOCK_PX, size)) % side
            strip = tile[:, rows[:, None], columns]
            target.write(strip, window=((row, row + len(rows)), (0, size)))


def _random_model(path: Path, encoder: str) -> str:
    torch.manual_seed(0)
    card = open_model("bundled").card
    network = build_unet(encoder, card.in_channels)
    changed = {"name": f"random-{encoder}", "encoder": encoder, "architecture": "Unet"}
    save_bundle(path, network.state_dict(), card.model_copy(update=changed))
    return str(path)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else os.uname().machine
