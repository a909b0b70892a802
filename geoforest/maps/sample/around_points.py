"""Cut a scene in true colour around sampled points, at full resolution."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from rasterio.windows import Window as RasterioWindow

from geoforest.arrays.grid import Window
from geoforest.errors import WriteError
from geoforest.io.gdal import pinned
from geoforest.report.picture import stretch_limits, stretched
from geoforest.report.quicklook import rgb_reflectance
from geoforest.scenes.read import read_window, release

if TYPE_CHECKING:
    from pathlib import Path

    import rasterio
    from numpy.typing import NDArray

    from geoforest.scenes.scene import Scene

_BLOCK_PX = 128
_RGB = ("B04", "B03", "B02")
# The stretch is computed from the first blocks; points are in random order, so they are a sample.
_STRETCH_BLOCKS = 64
_JPEG_QUALITY = 85


def write_picture(
    path: Path,
    scene: Scene,
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    around_px: tuple[int, int],
) -> bool:
    """Write the scene around points as a sparse JPEG GeoTIFF on the grid of the scene.

    Parameters
    ----------
    path
        File to write.
    scene
        Scene to read.
    rows, cols
        int64 ``(n,)``: pixels of the points, in random order.
    around_px
        Fewest rows and columns shown on each side of a point.

    Returns
    -------
    bool
        False, without a file, when the scene lacks red, green or blue, or nothing was observed.

    Raises
    ------
    ReadError
        When the scene cannot be read.
    WriteError
        When the file cannot be written.
    """
    bands = {band.name: number for number, band in enumerate(scene.bands)}
    if not set(_RGB) <= bands.keys():
        return False
    chosen = [bands[name] for name in _RGB]
    scene = replace(
        scene,
        bands=tuple(scene.bands[one] for one in chosen),
        scale=tuple(scene.scale[one] for one in chosen),
        offset=tuple(scene.offset[one] for one in chosen),
    )
    blocks = _blocks(scene.shape, rows, cols, around_px)
    try:
        limits = _stretch_limits_of(scene, blocks)
        if limits is None:
            return False
        _write_blocks(path, scene, sorted(blocks), limits)
    except (RasterioError, OSError) as error:
        raise WriteError(f"{path}: cannot be written ({error})") from error
    finally:
        release(scene)
    return True


def _blocks(
    shape: tuple[int, int],
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    around_px: tuple[int, int],
) -> list[tuple[int, int]]:
    """List row and column of the blocks around the points, in the order of the points."""
    found: dict[tuple[int, int], None] = {}
    for place in zip(rows.tolist(), cols.tolist(), strict=True):
        first = [max(0, at - px) // _BLOCK_PX for at, px in zip(place, around_px, strict=True)]
        last = [
            min(side - 1, at + px) // _BLOCK_PX
            for at, px, side in zip(place, around_px, shape, strict=True)
        ]
        for down in range(first[0], last[0] + 1):
            for across in range(first[1], last[1] + 1):
                found[down, across] = None
    return list(found)


def _stretch_limits_of(scene: Scene, blocks: list[tuple[int, int]]) -> tuple[float, float] | None:
    seen = []
    for block in blocks[:_STRETCH_BLOCKS]:
        dn, valid = read_window(scene, _window(scene, block))
        seen.append(rgb_reflectance(scene, dn)[:, valid])
    values = np.concatenate(seen, axis=1)[:, None]
    if not values.size:
        return None
    return stretch_limits(values, np.ones(values.shape[1:], np.bool_))


def _write_blocks(
    path: Path, scene: Scene, blocks: list[tuple[int, int]], limits: tuple[float, float]
) -> None:
    profile = {
        "driver": "GTiff", "count": 3, "dtype": "uint8", "photometric": "YCBCR",
        "compress": "JPEG", "jpeg_quality": _JPEG_QUALITY, "tiled": True, "sparse_ok": True,
        "blockxsize": _BLOCK_PX, "blockysize": _BLOCK_PX,
    }  # fmt: skip
    with MemoryFile() as memory:
        with (
            pinned(GDAL_TIFF_INTERNAL_MASK="YES"),
            memory.open(
                height=scene.shape[0],
                width=scene.shape[1],
                crs=scene.crs,
                transform=scene.transform,
                **profile,
            ) as target,
        ):
            _write_into(target, scene, blocks, limits)
        # By Python, because GDAL does not report each failure of a disk.
        path.write_bytes(memory.read())


def _write_into(
    target: rasterio.io.DatasetWriter,
    scene: Scene,
    blocks: list[tuple[int, int]],
    limits: tuple[float, float],
) -> None:
    for block in blocks:
        window = _window(scene, block)
        dn, valid = read_window(scene, window)
        colours = np.rint(255 * stretched(rgb_reflectance(scene, dn), *limits))
        colours[~valid] = 0
        place = RasterioWindow(window.col_off, window.row_off, window.width, window.height)
        target.write(np.moveaxis(colours, -1, 0).astype(np.uint8), window=place)
        target.write_mask(valid, window=place)


def _window(scene: Scene, block: tuple[int, int]) -> Window:
    row, col = block[0] * _BLOCK_PX, block[1] * _BLOCK_PX
    height, width = min(_BLOCK_PX, scene.shape[0] - row), min(_BLOCK_PX, scene.shape[1] - col)
    return Window(row, col, height, width)
