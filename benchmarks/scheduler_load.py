"""Measure the cost per shard without prediction, on a mosaic of 40,000 shards.

    python -m benchmarks.scheduler_load [--shards 40000] [--workers 0] [--folder /dev/shm]

The scene is a sparse file, so that reading is fast. The folder should be in memory, because the
scheduler is measured, not the disk. The cache of decoded blocks is kept small, because it grows up
to its limit and would show in the memory.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from affine import Affine

import geoforest
from geoforest.compute.machine import resident_memory_mb
from geoforest.models.bundle import save_bundle
from geoforest.models.registry import open_model
from geoforest.models.unet import build_unet
from geoforest.scenes.read import GDAL_OPTIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoforest.types import Array, Factor, Valid

SIDE = 32


class NoPredictor:
    """Predictor that returns probability 0 everywhere."""

    def __call__(
        self,
        dn: Array,
        scale: Factor = 1e-4,  # noqa: ARG002  (every predictor takes these three)
        offset: Factor = 0.0,  # noqa: ARG002
        valid: Valid | None = None,  # noqa: ARG002
    ) -> NDArray[np.float32]:
        return np.zeros((len(dn), *dn.shape[2:]), np.float32)


def load_no_predictor(_job: object) -> NoPredictor:
    return NoPredictor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=40_000)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    arguments = parser.parse_args()
    along = math.isqrt(arguments.shards)
    GDAL_OPTIONS["GDAL_CACHEMAX"] = 8 << 20
    with TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        scene = folder / "scene.tif"
        with rasterio.open(
            scene, "w", driver="GTiff", width=along * SIDE, height=along * SIDE, count=4,
            dtype="uint16", nodata=0, crs="EPSG:32720", tiled=True, blockxsize=256, blockysize=256,
            transform=Affine(10, 0, 500_000, 0, -10, 8_900_000), sparse_ok=True,
        ) as target:  # fmt: skip
            target.descriptions = ("B04", "B03", "B02", "B08")
        card = open_model("bundled").card.model_copy(
            update={"encoder": "mobilenet_v2", "architecture": "Unet", "window": SIDE}
        )
        save_bundle(folder / "model", build_unet("mobilenet_v2", 4).state_dict(), card)
        start, steps = time.perf_counter(), []

        def progress(stage: str, done: int, _total: int) -> None:
            if stage == "predict" and done % (along * along // 8) == 0:
                steps.append((done, time.perf_counter() - start, resident_memory_mb()))

        geoforest.map_scene(
            scene, folder / "out", model=str(folder / "model"), halo=0, shard=SIDE,
            products="probability", load_predictor=load_no_predictor, progress=progress,
            workers=arguments.workers,
        )  # fmt: skip
    for done, seconds, memory in steps:
        print(f"{done:7,} shards {seconds:8.1f} s {memory:8.0f} MB")
    (first, began, _), (last, ended, _) = steps[0], steps[-1]
    print(json.dumps({"shards": last, "ms_a_shard": 1000 * (ended - began) / (last - first)}))


if __name__ == "__main__":
    main()
