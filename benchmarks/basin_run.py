"""Measure the bookkeeping of a basin: many small scenes in seven UTM zones, without prediction.

    python -m benchmarks.basin_run [--tiles 700] [--kill-after 300]

Each scene covers the ground of a Sentinel-2 tile at 480 m. One run is complete, and reports its
memory after each scene; another is killed after some scenes, and started again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import rasterio
from affine import Affine

from benchmarks.scheduler_load import load_no_predictor

SIDE, PX_M = 230, 480
ZONES = range(17, 24)
WINDOW = 64
SETTINGS: dict[str, Any] = {
    "window": WINDOW,
    "halo": 8,
    "shard": 96,
    "products": "mask,probability",
}


@dataclass(frozen=True)
class Run:
    """Result of one run.

    Attributes
    ----------
    scenes
        One dict per finished scene, in order: scene_id, windows, shards, reused_shards, created,
        and resident_mb and peak_mb of the process at that time.
    seconds
        Wall-clock seconds of the run.
    """

    scenes: list[dict[str, Any]]
    seconds: float


def write_scenes(folder: Path, tiles: int) -> None:
    """Write scenes, distributed over the zones, 85 km apart from south to north."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for n in range(tiles):
        zone, row = ZONES[n % len(ZONES)], n // len(ZONES)
        dn = rng.integers(300, 4000, (4, 1, 1)).astype(np.uint16) + np.zeros(
            (4, SIDE, SIDE), np.uint16
        )
        with rasterio.open(
            folder / f"S2A_MSIL2A_20240701T140000_T{zone}X{row:03}.tif", "w", driver="GTiff",
            width=SIDE, height=SIDE, count=4, dtype="uint16", nodata=0, compress="deflate",
            crs=f"EPSG:{32700 + zone}", transform=Affine(PX_M, 0, 300_000, 0, -PX_M,
            1_400_000 + 85_000 * (row % 100)),
        ) as target:  # fmt: skip
            target.write(dn)
            target.descriptions = ("B04", "B03", "B02", "B08")


def write_model(folder: Path) -> None:
    """Save a bundle whose network is never run."""
    from geoforest.models.bundle import save_bundle
    from geoforest.models.registry import open_model
    from geoforest.models.unet import build_unet

    card = open_model("bundled").card.model_copy(
        update={"encoder": "mobilenet_v2", "architecture": "Unet", "window": WINDOW}
    )
    save_bundle(folder, build_unet("mobilenet_v2", 4).state_dict(), card)


def map_all(scenes: Path, out: Path, model: Path) -> None:
    """Map all scenes, and print one line of JSON per finished scene."""
    import geoforest
    from geoforest.compute.machine import peak_memory_mb, resident_memory_mb

    paths = sorted(scenes.glob("*.tif"))
    for result in geoforest.map_scenes(
        paths, out, model=str(model), load_predictor=load_no_predictor, **SETTINGS
    ):
        if isinstance(result, geoforest.SceneFailure):
            raise result.error
        summary: dict[str, Any] = {**result.summary}
        kept = "scene_id", "windows", "shards", "reused_shards", "created"
        line = {key: summary[key] for key in kept}
        line |= {"resident_mb": resident_memory_mb(), "peak_mb": peak_memory_mb()}
        print(json.dumps(line), flush=True)


def run(scenes: Path, out: Path, model: Path, *, kill_after: int | None = None) -> Run:
    """Map in a process of its own, which is killed after ``kill_after`` scenes."""
    start = time.perf_counter()
    finished: list[dict[str, Any]] = []
    command = [sys.executable, "-m", "benchmarks.basin_run", "--map"]
    with subprocess.Popen(
        [*command, str(scenes), str(out), str(model)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            finished.append(json.loads(line))
            if len(finished) == kill_after:
                process.kill()
                break
    assert kill_after is not None or process.returncode == 0
    return Run(finished, time.perf_counter() - start)


def count(folder: Path, tiles: int, kill_after: int) -> dict[str, Any]:
    """Make a complete run, a killed run and its repetition, and count the work of each.

    Returns
    -------
    dict
        scenes, windows and shards of the complete run; resident and peak ``memory_mb`` after each
        seventh of it; ``kept_scenes`` that were finished at the kill, ``begun_scenes`` and their
        ``committed_shards``; ``reused_shards`` of the repetition, and shards computed ``again``;
        ``seconds`` of the three runs.
    """
    scenes, model = folder / "scenes", folder / "model"
    write_scenes(scenes, tiles)
    write_model(model)
    whole = run(scenes, folder / "whole", model)
    out = folder / "killed"
    killed = run(scenes, out, model, kill_after=kill_after)
    kept = {path.parent.name for path in out.glob("*/job.json") if json.loads(path.read_text())}
    committed = {
        path.name: len(list((path / ".geoforest-work" / "shards").glob("r*.tif")))
        for path in out.iterdir()
        if path.name not in kept
    }
    resumed = run(scenes, out, model)
    new = [scene for scene in resumed.scenes if scene["scene_id"] not in kept]
    marks = sorted({max(1, tiles * part // 7) for part in range(1, 8)})
    return {
        "scenes": len(whole.scenes),
        "resumed_scenes": len(resumed.scenes),
        "windows": sum(scene["windows"] for scene in whole.scenes),
        "shards": sum(scene["shards"] for scene in whole.scenes),
        "memory_mb": {
            mark: (whole.scenes[mark - 1]["resident_mb"], whole.scenes[mark - 1]["peak_mb"])
            for mark in marks
        },
        "kept_scenes": len(kept),
        "begun_scenes": len(committed),
        "committed_shards": sum(committed.values()),
        "reused_shards": sum(scene["reused_shards"] for scene in new),
        "again": sum(scene["shards"] - scene["reused_shards"] for scene in new),
        "seconds": [round(one.seconds, 1) for one in (whole, killed, resumed)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=700)
    parser.add_argument("--kill-after", type=int, default=300)
    parser.add_argument("--map", nargs=3, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.map:
        map_all(*arguments.map)
        return
    with TemporaryDirectory() as name:
        print(json.dumps(count(Path(name), arguments.tiles, arguments.kill_after), indent=2))


if __name__ == "__main__":
    main()
