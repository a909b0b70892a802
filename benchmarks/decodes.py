"""Measure how often a block of a file is decoded: bytes that processes read per byte of the file.

    python -m benchmarks.decodes [--size 10980] [--block 512]

Linux only: it counts the bytes that processes read from the operating system (``rchar`` of
``/proc/PID/io``); GDAL reads once for every block that it decodes. The predictor does nothing, so
that only reading remains.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window

import geoforest
from geoforest.models.bundle import save_bundle
from geoforest.models.registry import open_model
from geoforest.models.unet import build_unet

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoforest.types import Array, Factor, Valid

BANDS = ("B04", "B03", "B02", "B08")


class ReadCounter:
    """Predictor that writes, at each call, how many bytes its process has read so far."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / str(os.getpid())

    def __call__(
        self,
        dn: Array,
        scale: Factor = 1e-4,  # noqa: ARG002  (every predictor takes these three)
        offset: Factor = 0.0,  # noqa: ARG002
        valid: Valid | None = None,  # noqa: ARG002
    ) -> NDArray[np.float32]:
        self._path.write_text(str(bytes_read()))
        return np.zeros((len(dn), *dn.shape[2:]), np.float32)


def load_counter(_job: object) -> ReadCounter:
    folder = Path(os.environ["READ_COUNTER"])
    (folder / f"{os.getpid()}.before").write_text(str(bytes_read()))
    return ReadCounter(folder)


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split("rchar:")[1].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=10980)
    parser.add_argument("--block", type=int, default=512)
    arguments = parser.parse_args()
    # Workers import the function by name, which `__main__` does not allow.
    from benchmarks.decodes import load_counter as load

    with TemporaryDirectory() as name:
        folder = Path(name)
        scene = folder / "scene.tif"
        write_noise(scene, arguments.size, arguments.block)
        card = open_model("bundled").card.model_copy(
            update={"encoder": "mobilenet_v2", "architecture": "Unet"}
        )
        save_bundle(folder / "model", build_unet("mobilenet_v2", 4).state_dict(), card)
        size = scene.stat().st_size
        for workers in (0, 2):
            counts = folder / f"counts{workers}"
            counts.mkdir()
            os.environ["READ_COUNTER"] = str(counts)
            geoforest.map_scene(
                scene, folder / f"out{workers}", model=str(folder / "model"), workers=workers,
                products="probability", load_predictor=load,
            )  # fmt: skip
            read = sum(
                int(path.read_text()) - int(path.with_suffix(".before").read_text())
                for path in counts.iterdir()
                if not path.suffix
            )
            where = f"{workers} processes" if workers else "in process"
            print(f"{where}: {read / size:.2f} decodes per block", flush=True)


def write_noise(path: Path, size: int, block: int) -> None:
    """Write random numbers, which do not compress, so that all blocks have nearly equal sizes."""
    rng = np.random.default_rng(0)
    with rasterio.open(
        path, "w", driver="GTiff", width=size, height=size, count=4, dtype="uint16", nodata=0,
        crs="EPSG:32720", transform=Affine(10, 0, 500_000, 0, -10, 8_900_000), tiled=True,
        blockxsize=block, blockysize=block, compress="deflate", zlevel=1,
    ) as target:  # fmt: skip
        target.descriptions = BANDS
        for row in range(0, size, block):
            height = min(block, size - row)
            values = rng.integers(1, 10_000, (4, height, size), np.uint16)
            target.write(values, window=Window(0, row, size, height))


if __name__ == "__main__":
    main()
