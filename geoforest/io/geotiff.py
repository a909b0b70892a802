"""Read windows of a scene through rasterio. Files are opened for each read, so scenes travel."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.windows import Window as RasterioWindow

from geoforest.errors import ReadError, SceneError
from geoforest.grid import Window
from geoforest.reflectance import observed
from geoforest.scene import BandSource, Scene
from geoforest.types import Array, Shape, Valid

GDAL_OPTIONS = {
    # Bytes, as rasterio passes the number on as it is: enough for the blocks of a row of shards.
    "GDAL_CACHEMAX": 256 << 20,
    # Decoding is shared out by shards; more threads here would only fight the network for cores.
    "GDAL_NUM_THREADS": 1,
}


_TIFFS = {".tif", ".tiff"}
_RASTERS = _TIFFS | {".vrt"}


def read(scene: Scene, window: Window) -> tuple[Array, Valid]:
    """Read one window of all bands.

    Safe to call from several threads and processes at once.

    Parameters
    ----------
    scene
        The description; its band order is the order of the result.
    window
        Inside the scene.

    Returns
    -------
    dn : numpy.ndarray
        ``(band, row, col)``, the stored dtype.
    valid : numpy.ndarray
        bool ``(row, col)``: not nodata and finite in every band.

    Raises
    ------
    ReadError
        When a block cannot be decoded; names the file.
    """
    return _read(scene, window, window.shape)


def read_decimated(scene: Scene, max_side_px: int) -> tuple[Array, Valid]:
    """Read the whole scene at a smaller size, by nearest neighbour, for a picture.

    Returns
    -------
    dn, valid : numpy.ndarray
        As from :func:`read`, with no side longer than ``max_side_px``.
    """
    factor = max(1.0, max(scene.shape) / max_side_px)
    rows, cols = (max(1, round(side / factor)) for side in scene.shape)
    return _read(scene, Window(0, 0, *scene.shape), (rows, cols))


def _read(scene: Scene, window: Window, shape: Shape) -> tuple[Array, Valid]:
    dn = np.empty((len(scene.bands), *shape), scene.dtype)
    valid = np.ones(shape, np.bool_)
    place = RasterioWindow(window.col_off, window.row_off, window.width, window.height)
    numbered = sorted(enumerate(scene.bands), key=lambda item: item[1].path)
    with rasterio.Env(**GDAL_OPTIONS):
        for path, group in groupby(numbered, key=lambda item: item[1].path):
            _read_file(path, list(group), place, dn, valid)
    valid &= observed(
        dn, nodata=[band.nodata for band in scene.bands], zero_is_nodata=scene.zero_is_nodata
    )
    return dn, valid


def _read_file(
    path: str,
    bands: list[tuple[int, BandSource]],
    place: RasterioWindow,
    dn: Array,
    valid: Valid,
) -> None:
    shape = valid.shape
    try:
        with rasterio.open(path) as source:
            values = source.read(
                [band.index for _, band in bands], window=place, out_shape=(len(bands), *shape)
            )
            for (position, _), layer in zip(bands, values, strict=True):
                dn[position] = layer
            for mask_index in {(band.mask_index, band.index) for _, band in bands}:
                match mask_index:
                    case None, _:
                        continue
                    case 0, index:
                        valid &= source.read_masks(index, window=place, out_shape=shape) > 0
                    case alpha, _:
                        valid &= source.read(alpha, window=place, out_shape=shape) > 0
    except RasterioIOError as error:
        reason = error.__cause__ or error
        raise ReadError(
            f"{path}: rows {place.row_off} to {place.row_off + place.height}, columns "
            f"{place.col_off} to {place.col_off + place.width} cannot be read ({reason})"
        ) from error


def is_virtual(path: str) -> bool:
    """Whether a path is one of GDAL's own, such as into an archive."""
    return path.startswith("/vsi")


def absolute(path: str) -> str:
    """Give a path that means the same from whatever folder it is used in."""
    # Not through pathlib, which takes /vsizip//a.zip and /vsizip/a.zip for the same.
    return path if is_virtual(path) else str(Path(path).absolute())


def files_behind(paths: Iterable[str]) -> list[str]:
    """All files that rasters are read from, those behind virtual rasters included, by name.

    Raises
    ------
    SceneError
        When a file is missing or no raster, naming the one that needs it.
    """
    found: set[str] = set()
    waiting = [(absolute(path), path) for path in paths]
    while waiting:
        path, needed_by = waiting.pop()
        if path in found:
            continue
        if not (is_virtual(path) or Path(path).is_file()):
            raise SceneError(f"{path}: no such file, and {needed_by} needs it")
        found.add(path)
        if Path(path).suffix.lower() not in _RASTERS:
            continue
        try:
            # GDAL names the files of one level: a VRT of VRTs does not tell what is below them.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                with rasterio.open(path) as source:
                    waiting += [(absolute(name), path) for name in source.files]
        except RasterioIOError as error:
            raise SceneError(
                f"{path}: cannot be read, and {needed_by} needs it ({error})"
            ) from error
    return sorted(found)


def check_not_truncated(file: str) -> None:
    """Refuse a local TIFF whose block offsets point beyond the end of the file.

    Raises
    ------
    SceneError
        Naming the file, its size and the size its blocks want.
    """
    path = Path(file)
    if path.suffix.lower() not in _TIFFS or not path.is_file():
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as source:
            _check_blocks(source, path)


def _check_blocks(source: rasterio.DatasetReader, path: Path) -> None:
    size = path.stat().st_size
    interleaved = source.interleaving is not None and source.interleaving.name == "pixel"
    for index in [1] if interleaved else source.indexes:
        rows, cols = source.block_shapes[index - 1]
        for row in range(-(-source.height // rows)):
            for col in range(-(-source.width // cols)):
                block = f"{col}_{row}"
                offset = source.get_tag_item(f"BLOCK_OFFSET_{block}", "TIFF", bidx=index)
                length = source.get_tag_item(f"BLOCK_SIZE_{block}", "TIFF", bidx=index)
                if offset is not None and int(offset) + int(length or 0) > size:
                    raise SceneError(
                        f"{path}: truncated: the file has {size} bytes, but a block of band "
                        f"{index} ends at {int(offset) + int(length or 0)}"
                    )
