"""Read windows of a scene through rasterio.

A scene is a picklable description. Each process opens its files once and keeps them open, so that
neighbouring shards find the blocks they share decoded in GDAL's cache.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from rasterio.windows import Window as RasterioWindow

from geoforest.arrays.grid import Window, preview_lattice
from geoforest.arrays.validity import MISSING, REACH_PX, judge
from geoforest.errors import ReadError
from geoforest.io.raster import RASTER_ERRORS, open_raster
from geoforest.io.remote import network_options, patiently, reason, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from geoforest.scenes.scene import BandSource, FileStamp, Scene
    from geoforest.types import Array, Shape, Valid

# The next row of shards reads the blocks of the row above again: 225 MB for 10980 columns of four
# uint16 bands in blocks of 512.
CACHE_BYTES = 384 << 20
GDAL_OPTIONS = {
    # In bytes: rasterio passes the number to GDAL unchanged.
    "GDAL_CACHEMAX": CACHE_BYTES,
    # Shards decode in parallel already; more threads here would compete with the network for cores.
    "GDAL_NUM_THREADS": 1,
}


def read_window(scene: Scene, window: Window) -> tuple[Array, Valid]:
    """Read one window of all bands.

    Safe to call from several threads and processes at once.

    Parameters
    ----------
    scene
        The scene; the result has its band order.
    window
        A window inside the scene.

    Returns
    -------
    dn : numpy.ndarray
        ``(band, row, col)``, the stored dtype.
    valid : numpy.ndarray
        bool ``(row, col)``: True where observed, see :mod:`geoforest.arrays.validity`.

    Raises
    ------
    ReadError
        When a block cannot be decoded; names the file.
    """
    dn, codes = read_judged(scene, window)
    return dn, codes < MISSING


def read_judged(scene: Scene, window: Window) -> tuple[Array, NDArray[np.uint8]]:
    """Read one window of all bands, with the codes of :mod:`geoforest.arrays.validity`.

    A pixel's code does not depend on the window it is read in.

    Parameters
    ----------
    scene, window
        As for :func:`read_window`.

    Returns
    -------
    dn : numpy.ndarray
        ``(band, row, col)``, the stored dtype.
    codes : numpy.ndarray
        uint8 ``(row, col)``.

    Raises
    ------
    ReadError
        When a block cannot be decoded; names the file.
    """
    dn, hidden = _read_bands(scene, window, window.shape)
    codes, is_open = judge(dn, scene.rules, hidden)
    around = window.widened(REACH_PX, REACH_PX, scene.shape)
    # Seldom: only beside the edge of a swath do the pixels around a window decide anything.
    if is_open and around != window:
        dn, hidden = _read_bands(scene, around, around.shape)
        codes, _ = judge(dn, scene.rules, hidden)
        cut = window.slices_in(around)
        dn, codes = dn[:, *cut], codes[cut]
    return dn, codes


def read_band(path: str, scene: Scene, window: Window) -> Array:
    """Read a window ``(row, col)`` of another file's first band, such as the classification's.

    Safe to call from several threads and processes at once.

    Parameters
    ----------
    path
        Anything GDAL opens, on its own grid.
    scene
        The scene the file belongs to; :func:`release` closes it with the scene's other files.
    window
        A window inside the file.

    Raises
    ------
    ReadError
        When a block cannot be decoded; names the file.
    """
    place = RasterioWindow(window.col_off, window.row_off, window.width, window.height)

    def attempt() -> Array:
        with _source(path, scene) as source:
            values: Array = source.read(1, window=place)
        return values

    try:
        return patiently(attempt, path)
    except RASTER_ERRORS as error:
        raise _unreadable(path, place, error) from _cause(path, error)


def read_decimated(scene: Scene, max_side_px: int) -> tuple[Array, Valid]:
    """Read the whole scene decimated by nearest neighbour, for a picture.

    Returns
    -------
    dn, valid : numpy.ndarray
        As from :func:`read_window`, with no side longer than ``max_side_px``.
    """
    rows, cols = preview_lattice(scene.shape, max_side_px)
    try:
        if _has_overviews(scene):
            dn, hidden = _read_bands(scene, Window(0, 0, *scene.shape), (len(rows), len(cols)))
            codes, _ = judge(dn, scene.rules, hidden, neighbours=False)
            return dn, codes < MISSING
        # GDAL would read the whole file once per band, and decode all bands each time.
        dn = np.empty((len(scene.bands), len(rows), len(cols)), scene.dtype)
        valid = np.empty(dn.shape[1:], np.bool_)
        for top in range(0, scene.shape[0], _STRIP_ROWS):
            strip = Window(top, 0, min(_STRIP_ROWS, scene.shape[0] - top), scene.shape[1])
            down, _ = strip.cut(rows, cols)
            if down.start < down.stop:
                values, seen = read_window(scene, strip)
                picked = rows[down] - top
                dn[:, down], valid[down] = values[:, picked][..., cols], seen[picked][:, cols]
        return dn, valid
    finally:
        release(scene)


def _has_overviews(scene: Scene) -> bool:
    band = scene.bands[0]
    with _lock, rasterio.Env(**GDAL_OPTIONS, **network_options()):
        return bool(_dataset(band.path, scene).overviews(band.index))


def release(scene: Scene) -> None:
    """Close the files of a scene in this process, and free their cached blocks."""
    with _lock:
        for key in [key for key in _open if key[1] == scene.files]:
            _open.pop(key).close()


_lock = threading.Lock()
"""GDAL's datasets are not thread-safe; decoding takes only a few percent of prediction's time."""
_open: OrderedDict[tuple[str, tuple[FileStamp, ...]], rasterio.DatasetReader] = OrderedDict()
_MOST_OPEN = 64
_STRIP_ROWS = 512


def _dataset(path: str, scene: Scene) -> rasterio.DatasetReader:
    # The stamps are part of the key, so that a changed file is opened again.
    key = path, scene.files
    if key not in _open:
        _open[key] = open_raster(path)
        if len(_open) > _MOST_OPEN:
            _open.popitem(last=False)[1].close()
    _open.move_to_end(key)
    return _open[key]


def _read_bands(scene: Scene, window: Window, shape: Shape) -> tuple[Array, Valid | None]:
    """Read a window of all bands, resampled to ``shape``, and which pixels masks hide.

    None stands for files without a mask.
    """
    dn = np.empty((len(scene.bands), *shape), scene.dtype)
    has_mask = any(band.mask_index is not None for band in scene.bands)
    seen = np.ones(shape, np.bool_)
    place = RasterioWindow(window.col_off, window.row_off, window.width, window.height)
    numbered = sorted(enumerate(scene.bands), key=lambda item: item[1].path)
    for path, group in groupby(numbered, key=lambda item: item[1].path):
        bands = list(group)
        try:
            # patiently() calls the lambda within this iteration.
            patiently(lambda: _read_into(path, scene, bands, place, dn, seen), path)  # noqa: B023
        except RASTER_ERRORS as error:
            raise _unreadable(path, place, error) from _cause(path, error)
    return dn, ~seen if has_mask else None


def _read_into(
    path: str,
    scene: Scene,
    bands: list[tuple[int, BandSource]],
    place: RasterioWindow,
    dn: Array,
    valid: Valid,
) -> None:
    with _source(path, scene) as source:
        _read_file_into(source, bands, place, dn, valid)


@contextmanager
def _source(path: str, scene: Scene) -> Iterator[rasterio.DatasetReader]:
    """Lock and yield an open file; after a failed read it is closed and opened again."""
    with _lock, rasterio.Env(**GDAL_OPTIONS, **network_options()):
        try:
            yield _dataset(path, scene)
        except RASTER_ERRORS:
            if (broken := _open.pop((path, scene.files), None)) is not None:
                broken.close()
            raise


def _unreadable(path: str, place: RasterioWindow, error: Exception) -> ReadError:
    return ReadError(
        f"{shown(path)}: rows {place.row_off} to {place.row_off + place.height}, columns "
        f"{place.col_off} to {place.col_off + place.width} cannot be read "
        f"({reason(error.__cause__ or error, path)})"
    )


def _cause(path: str, error: Exception) -> Exception | None:
    """Return the cause to chain, or None when it may show a URL's signature, which workers log."""
    return None if "?" in path else error


def _read_file_into(
    source: rasterio.DatasetReader,
    bands: list[tuple[int, BandSource]],
    place: RasterioWindow,
    dn: Array,
    valid: Valid,
) -> None:
    shape = valid.shape
    indexes = [band.index for _, band in bands]
    if [position for position, _ in bands] == list(range(len(dn))):
        source.read(indexes, window=place, out=dn)
    else:
        values = source.read(
            indexes, window=place, out_shape=(len(bands), *shape), out_dtype=dn.dtype
        )
        dn[[position for position, _ in bands]] = values
    for mask_index in {(band.mask_index, band.index) for _, band in bands}:
        match mask_index:
            case None, _:
                continue
            case 0, index:
                valid &= source.read_masks(index, window=place, out_shape=shape) > 0
            case alpha, _:
                valid &= source.read(alpha, window=place, out_shape=shape) > 0
