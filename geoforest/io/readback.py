"""Rasters read back after they were written: GDAL and libtiff do not report each failed write."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
from rasterio.errors import RasterioError

from geoforest.arrays.grid import Window
from geoforest.errors import WriteError
from geoforest.io.raster import open_raster

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import rasterio
    from numpy.typing import NDArray

    from geoforest.arrays.georef import GeoRef
    from geoforest.types import Array

_STRIP_ROWS: Final = 1024
_STRAY_SHARE: Final = 0.001
# GDAL repeats the size of each block of a COG before it and its last bytes behind it.
_BEFORE_BLOCK, _BEHIND_BLOCK = 4, 4


class PixelSums:
    """Sums over the rows of a uint8 raster, by which pixels are known again wherever they lie.

    Parameters
    ----------
    shape
        Rows and columns of the raster.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._weights = np.random.default_rng(0).integers(1, 1 << 63, shape[1], np.uint64)
        self._sums = np.zeros(shape[0], np.uint64)

    def add(self, window: Window, values: Array) -> None:
        """Add the pixels of a window."""
        from geoforest.arrays.kernels.pixels import add_row_sums

        rows, cols = window.slices
        add_row_sums(values, self._weights[cols], self._sums[rows])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PixelSums) and np.array_equal(self._sums, other._sums)

    __hash__ = None  # type: ignore[assignment]


def check_cog(
    path: Path, written: PixelSums, georef: GeoRef, tags: Mapping[str, str], block_px: int
) -> None:
    """Check that a cloud-optimised GeoTIFF of one uint8 band is what was written.

    Parameters
    ----------
    path
        The file.
    written
        Sums of the pixels that were written.
    georef, tags
        Its grid and metadata.
    block_px
        Side of its blocks.

    Raises
    ------
    WriteError
        When pixels, overviews, georeference, tags or the places of blocks are others, or the file
        cannot be read.
    """
    try:
        with open_raster(path) as source:
            _check_header(path, source, georef, tags)
            shapes = _level_shapes(path, source, block_px)
            _check_blocks(path, source, shapes, block_px)
        _check_pixels(path, shapes, written)
    except RasterioError as error:
        raise _lost(path, error) from error


def _lost(path: Path, what: object) -> WriteError:
    return WriteError(
        f"{path}: does not read back as it was written ({what}); was the disk full for a moment?"
    )


def _check_header(
    path: Path, source: rasterio.DatasetReader, georef: GeoRef, tags: Mapping[str, str]
) -> None:
    if source.shape != georef.shape:
        raise _lost(path, f"its shape is {source.shape}, not {georef.shape}")
    if not source.transform.almost_equals(georef.transform, 1e-6):
        raise _lost(path, f"its transform is {source.transform}, not {georef.transform}")
    # GeoTIFF may spell a CRS in another way, so that only its absence is telling.
    if georef.crs is not None and source.crs is None:
        raise _lost(path, "it has no CRS")
    found = source.tags()
    for name, value in tags.items():
        if found.get(name, "").strip() != value.strip():
            raise _lost(path, f"its tag {name} is {found.get(name)!r}, not {value!r}")


def _level_shapes(
    path: Path, source: rasterio.DatasetReader, block_px: int
) -> list[tuple[int, int]]:
    """Return the shapes of a raster and of its overviews, each half the one before."""
    shapes = [source.shape]
    for level in range(len(source.overviews(1))):
        with open_raster(path, overview_level=level) as overview:
            shapes.append(overview.shape)
        for size, of in zip(shapes[-1], shapes[-2], strict=True):
            # GDAL rounds down or up, but not to nothing.
            if size not in (max(1, of // 2), -(-of // 2)):
                raise _lost(path, f"overview {level} is of {shapes[-1]} pixels")
    if max(shapes[-1]) > block_px:
        raise _lost(path, "an overview is missing")
    return shapes


def _check_blocks(
    path: Path, source: rasterio.DatasetReader, shapes: list[tuple[int, int]], block_px: int
) -> None:
    """Check that blocks lie one behind the other up to the end of the file, none left out."""
    spans = []
    for level, (rows, cols) in enumerate(shapes):
        overview = {"ovr": level - 1} if level else {}
        for row in range(-(-rows // block_px)):
            for col in range(-(-cols // block_px)):
                place = [
                    source.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", bidx=1, **overview)
                    for what in ("OFFSET", "SIZE")
                ]
                if None in place:
                    raise _lost(path, f"a block of level {level} is missing")
                spans.append((int(place[0]), int(place[0]) + int(place[1])))
    spans.sort()
    gaps = {after[0] - before[1] for before, after in pairwise(spans)}
    end = spans[-1][1] + _BEHIND_BLOCK
    if gaps - {_BEHIND_BLOCK + _BEFORE_BLOCK} or path.stat().st_size != end:
        raise _lost(path, "its blocks do not lie where they should")


def _check_pixels(path: Path, shapes: list[tuple[int, int]], written: PixelSums) -> None:
    """Check the pixels of the raster, and those of each overview against the level below it."""
    found = PixelSums(shapes[0])
    for level, (fine, coarse) in enumerate(pairwise([*shapes, (0, 0)])):
        with ExitStack() as held:
            below = held.enter_context(_open_level(path, level))
            above = held.enter_context(_open_level(path, level + 1)) if coarse[0] else None
            end = 0
            for rows, top, strip in _strips(below, coarse[0]):
                if level == 0:
                    found.add(Window(end, 0, top + len(strip) - end, fine[1]), strip[end - top :])
                    end = top + len(strip)
                if above is not None and _are_strays(strip, top, above, rows, fine):
                    raise _lost(path, f"overview {level + 1} is not of these pixels")
    if found != written:
        raise _lost(path, "pixels differ")


def _open_level(path: Path, level: int) -> rasterio.DatasetReader:
    return open_raster(path, **({"overview_level": level - 1} if level else {}))


def _strips(source: rasterio.DatasetReader, coarse_rows: int) -> Iterator[tuple[slice, int, Array]]:
    """Yield rows of the overview, and first row and pixels of what lies below them."""
    n_rows = source.shape[0]
    if not coarse_rows:
        for top in range(0, n_rows, _STRIP_ROWS):
            strip = source.read(
                1, window=((top, min(top + _STRIP_ROWS, n_rows)), (0, source.width))
            )
            yield slice(0, 0), top, strip
        return
    for row in range(0, coarse_rows, _STRIP_ROWS // 2):
        rows = slice(row, min(row + _STRIP_ROWS // 2, coarse_rows))
        tops, ends = _below(n_rows, coarse_rows)
        top, end = int(tops[rows][0]), int(ends[rows][-1])
        yield rows, top, source.read(1, window=((top, end), (0, source.width)))


def _are_strays(
    strip: Array,
    top: int,
    above: rasterio.DatasetReader,
    rows: slice,
    fine: tuple[int, int],
) -> bool:
    """Return whether part of an overview is of other pixels.

    A lost block is thousands of strays; a few at edges may be another GDAL's way of rounding.
    """
    from geoforest.arrays.kernels.pixels import count_strays

    coarse = above.read(1, window=((rows.start, rows.stop), (0, above.width)))
    down = _below(fine[0], above.height)[:, rows] - top
    across = _below(fine[1], above.width)
    strays = int(count_strays(strip, coarse, down, across, int(above.nodata)))
    return bool(strays > _STRAY_SHARE * coarse.size)


def _below(n_fine: int, n_coarse: int) -> NDArray[np.int64]:
    """Return, for each row or column of an overview, the first one below it and behind those."""
    edges = np.arange(n_coarse + 1) * (n_fine / n_coarse)
    return np.stack(
        [np.floor(edges[:-1] + 1e-6), np.minimum(np.ceil(edges[1:] - 1e-6), n_fine)]
    ).astype(np.int64)
