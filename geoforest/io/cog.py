"""Cloud-optimised GeoTIFFs of the mask and of the stored probability, streamed by blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError  # GDAL's own errors, which rasterio.shutil lets through
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from geoforest.errors import WriteError
from geoforest.grid import Window
from geoforest.types import FOREST, NO_OBSERVATION, OTHER, PROBABILITY_STEPS, Array, Shape

COLOURS = {OTHER: (228, 213, 183, 255), FOREST: (27, 120, 55, 255), NO_OBSERVATION: (0, 0, 0, 0)}
CATEGORIES = {OTHER: "other", FOREST: "forest", NO_OBSERVATION: "no observation"}
_BLOCK_PX = 512


def write_mask(
    path: Path,
    blocks: Iterable[tuple[Window, Array]],
    *,
    shape: Shape,
    crs: CRS,
    transform: Affine,
    tags: Mapping[str, str],
) -> None:
    """Write a mask COG with colour table, MODE overviews and category names beside it.

    Parameters
    ----------
    path
        File to make; ``path`` + ``.aux.xml`` gets the category names, where GDAL and QGIS look.
    blocks
        ``(window, codes)``, uint8, together covering the shape once.
    shape, crs, transform
        The grid.
    tags
        Metadata of the file.

    Raises
    ------
    WriteError
        When the file cannot be written, or does not read back as it was meant to be.
    """
    _write(path, blocks, shape, crs, transform, tags, resampling="MODE", colours=COLOURS)
    names = "".join(
        f"<Category>{escape(CATEGORIES.get(code, ''))}</Category>"
        for code in range(NO_OBSERVATION + 1)
    )
    Path(f"{path}.aux.xml").write_text(
        f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{names}</CategoryNames>'
        "</PAMRasterBand></PAMDataset>\n",
        encoding="utf-8",
    )


def write_probability(
    path: Path,
    blocks: Iterable[tuple[Window, Array]],
    *,
    shape: Shape,
    crs: CRS,
    transform: Affine,
    tags: Mapping[str, str],
) -> None:
    """Write a stored-probability COG: scale 0.004 in its tags, 255 as nodata, AVERAGE overviews.

    Parameters as for :func:`write_mask`.
    """
    scale = 1 / PROBABILITY_STEPS
    _write(path, blocks, shape, crs, transform, tags, resampling="AVERAGE", scale=scale)


def _write(
    path: Path,
    blocks: Iterable[tuple[Window, Array]],
    shape: Shape,
    crs: CRS,
    transform: Affine,
    tags: Mapping[str, str],
    *,
    resampling: str,
    colours: Mapping[int, tuple[int, int, int, int]] | None = None,
    scale: float | None = None,
) -> None:
    flat = path.with_name(f".{path.name}.flat.tif")
    expected = np.zeros(256, np.int64)
    try:
        with rasterio.open(
            flat,
            "w",
            driver="GTiff",
            height=shape[0],
            width=shape[1],
            count=1,
            dtype="uint8",
            crs=crs,
            transform=transform,
            nodata=NO_OBSERVATION,
            tiled=True,
            blockxsize=_BLOCK_PX,
            blockysize=_BLOCK_PX,
            compress="deflate",
            zlevel=1,
            BIGTIFF="IF_SAFER",
        ) as target:
            for window, values in blocks:
                place = RasterioWindow(window.col_off, window.row_off, window.width, window.height)
                target.write(values, 1, window=place)
                expected += _counts(values)
            if colours is not None:
                target.write_colormap(1, colours)
            if scale is not None:
                target.scales, target.offsets = (scale,), (0.0,)
            target.update_tags(**tags)
        rasterio.shutil.copy(
            flat,
            path,
            driver="COG",
            COMPRESS="DEFLATE",
            BLOCKSIZE=_BLOCK_PX,
            OVERVIEW_RESAMPLING=resampling,
            BIGTIFF="IF_SAFER",
        )
        # GDAL may flush a block long after it took it, and then tells nobody that it failed.
        if not np.array_equal(sum(_counts(values) for _, values in read_strips(path)), expected):
            raise WriteError(f"{path}: does not read back as it was written")
    except (OSError, RasterioError, CPLE_BaseError) as error:
        raise WriteError(f"{path}: cannot be written ({error})") from error
    finally:
        flat.unlink(missing_ok=True)
        Path(f"{flat}.aux.xml").unlink(missing_ok=True)


def read_strips(path: Path) -> Iterator[tuple[Window, Array]]:
    """Read a raster of one band from top to bottom, whole blocks at a time."""
    with rasterio.open(path) as source:
        rows, cols = source.shape
        for row in range(0, rows, 2 * _BLOCK_PX):
            window = Window(row, 0, min(2 * _BLOCK_PX, rows - row), cols)
            yield window, source.read(1, window=window.slices)


def _counts(values: Array) -> NDArray[np.int64]:
    """Count the pixels of each of 256 values."""
    return np.bincount(values.ravel(), minlength=256)
