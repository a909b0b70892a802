"""Generate a realistic forest mask of any size from a seed.

    python -m benchmarks.masks mask.tif [--size 10980] [--seed 7]

The mask is fine noise, as fine as clearings, over hills of noise some kilometres wide: connected
forest with many holes across the scene, and open land with groves. At 10980 px and the default
seed it has 98,700 polygons with 4.2 million vertices; the largest has 1.3 million vertices and
52,000 holes. Pixels beyond the swath have code 255. It is generated and written in overlapping
strips, so that it has no seams, and 43920 px need only the memory of a few rows.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window
from scipy.ndimage import gaussian_filter, gaussian_filter1d

if TYPE_CHECKING:
    from collections.abc import Iterator

FINE_PX = 2.0
HILLS_PX = 96
# Height of the hills in units of the fine noise, and the level above which ground is forest: half
# of it.
HILLS = 3.75
LEVEL = -0.4
STRIP_PX = 256
_TRUNCATE = 4


def write_mask(path: Path, size: int, seed: int = 7) -> None:
    """Write a mask of ``size`` x ``size`` px: 0 other, 1 forest, 255 beyond the swath."""
    with rasterio.open(
        path, "w", driver="GTiff", width=size, height=size, count=1, dtype="uint8", nodata=255,
        crs="EPSG:32720", transform=Affine(10, 0, 500_000, 0, -10, 8_900_000), tiled=True,
        blockxsize=256, blockysize=256, compress="deflate", zlevel=1,
    ) as target:  # fmt: skip
        row = 0
        for strip in mask_strips(size, seed):
            target.write(strip, 1, window=Window(0, row, size, len(strip)))
            row += len(strip)


def mask_strips(size: int, seed: int, rows: int = STRIP_PX) -> Iterator[np.ndarray]:
    """Yield the mask from the top, ``rows`` at a time; the pixels do not depend on ``rows``."""
    halo = math.ceil(_TRUNCATE * FINE_PX)
    hills = _Hills(size, seed)
    # Scales blurred white noise to variance 1.
    gain = math.sqrt(12) * 2 * math.sqrt(math.pi) * FINE_PX
    cols = np.arange(size)
    noise = _noise(0, 2 * halo, size, seed)
    for start in range(0, size, rows):
        stop = min(start + rows, size)
        noise = np.concatenate([noise, _noise(start + 2 * halo, stop + 2 * halo, size, seed)])
        fine = gaussian_filter1d(noise, FINE_PX, axis=0, truncate=_TRUNCATE)[halo:-halo]
        fine = gaussian_filter1d(fine, FINE_PX, axis=1, truncate=_TRUNCATE)
        noise = noise[-2 * halo :]
        strip = (gain * fine + HILLS * hills(start, stop) > LEVEL).astype(np.uint8)
        # The swath ends at a slope, and leaves the lower right corner unseen.
        edge = 1.07 * size - 0.2 * np.arange(start, stop)
        strip[cols >= edge[:, None]] = 255
        yield strip


def _noise(start: int, stop: int, size: int, seed: int) -> np.ndarray:
    """Return white noise from -0.5 to 0.5, float32, each row from its own generator."""
    rows = [
        np.random.default_rng([seed, row]).random(size, np.float32) for row in range(start, stop)
    ]
    return np.stack(rows) - np.float32(0.5)


class _Hills:
    """Smooth noise at the nodes of a lattice, interpolated between them."""

    def __init__(self, size: int, seed: int) -> None:
        nodes = math.ceil(size / HILLS_PX) + 2
        rough = np.random.default_rng(seed).standard_normal((nodes, nodes), np.float32)
        smooth = gaussian_filter(rough, 1.5, mode="wrap")
        self._heights = smooth / np.float32(smooth.std())
        self._col, self._right = self._place(np.arange(size))

    def __call__(self, start: int, stop: int) -> np.ndarray:
        row, down = self._place(np.arange(start, stop))
        down = down[:, None]
        lines = self._heights[row] * (1 - down) + self._heights[row + 1] * down
        heights: np.ndarray = (
            lines[:, self._col] * (1 - self._right) + lines[:, self._col + 1] * self._right
        )
        return heights

    @staticmethod
    def _place(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        node, rest = np.divmod(at, HILLS_PX)
        return node, (rest / HILLS_PX).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--size", type=int, default=10980)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    write_mask(arguments.path, arguments.size, arguments.seed)


if __name__ == "__main__":
    main()
