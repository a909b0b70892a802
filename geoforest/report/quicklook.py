"""``quicklook.tif``: the scene as the eye sees it, small, and in its place on the map."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from PIL import Image
from rasterio._err import CPLE_BaseError  # GDAL's own errors, which rasterio.shutil lets through
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from geoforest.arrays.grid import PREVIEW_PX, preview_lattice
from geoforest.errors import ReadError, WriteError
from geoforest.report.picture import true_colour
from geoforest.scenes.read import read_decimated

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from geoforest.scenes.scene import Scene
    from geoforest.types import Array, Valid

_QUALITY = 88


def decimated(scene: Scene) -> tuple[Array, Valid]:
    """Read the scene at a picture's size; all unobserved where it cannot be read.

    Returns
    -------
    dn : numpy.ndarray
        ``(band, row, col)``, the stored dtype, no side longer than ``PREVIEW_PX``.
    valid : numpy.ndarray
        bool ``(row, col)``, True where observed.
    """
    try:
        return read_decimated(scene, PREVIEW_PX)
    except ReadError:
        # The map may have gaps that were allowed; a picture is no reason to lose it.
        rows, cols = preview_lattice(scene.shape)
        dn = np.zeros((len(scene.bands), len(rows), len(cols)), scene.dtype)
        return dn, np.zeros(dn.shape[1:], np.bool_)


def visible(scene: Scene, dn: Array) -> NDArray[np.float64]:
    """Reflectance of red, green and blue; of the first band three times where one is missing.

    Parameters
    ----------
    scene
        What the bands are.
    dn
        ``(band, row, col)``, in the scene's band order.

    Returns
    -------
    numpy.ndarray
        ``(3, row, col)``.
    """
    names = [band.name for band in scene.bands]
    rgb = [names.index(name) for name in ("B04", "B03", "B02") if name in names]
    chosen = rgb if len(rgb) == 3 else [0, 0, 0]
    scale = np.asarray(scene.scale)[chosen, None, None]
    offset = np.asarray(scene.offset)[chosen, None, None]
    return np.asarray(dn[chosen] * scale + offset)


def write_quicklook(path: Path, scene: Scene, dn: Array, valid: Valid) -> None:
    """Write the scene in true colour: COG in the scene's CRS, JPEG, masked where unobserved.

    Parameters
    ----------
    path
        File to make.
    scene
        The grid; the picture covers it exactly.
    dn, valid
        As from :func:`decimated`.

    Raises
    ------
    WriteError
        When the file cannot be written.
    """
    colours = np.rint(255 * np.moveaxis(true_colour(visible(scene, dn), valid), -1, 0))
    rows, cols = valid.shape
    # Pixels are as many times larger as there are fewer of them: seldom a whole number, nor the
    # same along both sides.
    step = Affine.scale(scene.shape[1] / cols, scene.shape[0] / rows)
    try:
        with MemoryFile() as memory:
            with memory.open(
                driver="GTiff",
                height=rows,
                width=cols,
                count=4,
                dtype="uint8",
                crs=scene.crs,
                transform=scene.transform @ step,
            ) as target:
                target.colorinterp = (
                    ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha
                )  # fmt: skip
                target.write(colours.astype(np.uint8), [1, 2, 3])
                target.write(np.where(valid, 255, 0).astype(np.uint8), 4)
            rasterio.shutil.copy(
                memory.name, path, driver="COG", COMPRESS="JPEG", QUALITY=_QUALITY, BLOCKSIZE=512
            )
    except (OSError, RasterioError, CPLE_BaseError) as error:
        raise WriteError(f"{path}: cannot be written ({error})") from error


def scene_picture(scene: Scene) -> bytes:
    """PNG of a scene in true colour, decimated to a page's size; grey where unobserved."""
    dn, valid = decimated(scene)
    picture = np.rint(255 * true_colour(visible(scene, dn), valid)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="png")
    return stream.getvalue()
