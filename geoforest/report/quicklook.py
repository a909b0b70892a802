"""``quicklook.tif``: the scene in true colour, decimated and georeferenced."""

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
from geoforest.io.gdal import pinned
from geoforest.report.picture import true_colour
from geoforest.scenes.read import read_decimated

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from geoforest.scenes.scene import Scene
    from geoforest.types import Array, Valid

_QUALITY = 88


def decimated(scene: Scene) -> tuple[Array, Valid]:
    """Read the scene decimated for a picture; when it cannot be read, all of it is unobserved.

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
        # A map with allowed gaps must not fail because of its picture.
        rows, cols = preview_lattice(scene.shape)
        dn = np.zeros((len(scene.bands), len(rows), len(cols)), scene.dtype)
        return dn, np.zeros(dn.shape[1:], np.bool_)


def rgb_reflectance(scene: Scene, dn: Array) -> NDArray[np.float64]:
    """Compute the reflectance of B04, B03 and B02, or three times the first band if one is missing.

    Parameters
    ----------
    scene
        The scene that the pixels are from.
    dn
        ``(band, row, col)``, in the scene's band order.

    Returns
    -------
    numpy.ndarray
        ``(3, row, col)``, unitless.
    """
    names = [band.name for band in scene.bands]
    rgb = [names.index(name) for name in ("B04", "B03", "B02") if name in names]
    chosen = rgb if len(rgb) == 3 else [0, 0, 0]
    scale = np.asarray(scene.scale)[chosen, None, None]
    offset = np.asarray(scene.offset)[chosen, None, None]
    return np.asarray(dn[chosen] * scale + offset)


def write_quicklook(path: Path, scene: Scene, dn: Array, valid: Valid) -> None:
    """Write the scene in true colour: a JPEG COG in its CRS, transparent where unobserved.

    Parameters
    ----------
    path
        File to write.
    scene
        The scene; the picture covers its grid exactly.
    dn, valid
        Pixels and valid mask from :func:`decimated`.

    Raises
    ------
    WriteError
        When the file cannot be written.
    """
    colours = np.rint(255 * np.moveaxis(true_colour(rgb_reflectance(scene, dn), valid), -1, 0))
    rows, cols = valid.shape
    # The pixel size grows by a factor that is rarely an integer, and may differ in x and y.
    step = Affine.scale(scene.shape[1] / cols, scene.shape[0] / rows)
    try:
        with pinned(), MemoryFile() as memory:
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
            with MemoryFile(ext=".tif") as made:
                rasterio.shutil.copy(
                    memory.name,
                    made.name,
                    driver="COG",
                    COMPRESS="JPEG",
                    QUALITY=_QUALITY,
                    BLOCKSIZE=512,
                )
                # By Python, because GDAL does not report each failure of a disk.
                path.write_bytes(made.read())
    except (OSError, RasterioError, CPLE_BaseError) as error:
        raise WriteError(f"{path}: cannot be written ({error})") from error


def scene_picture(scene: Scene) -> bytes:
    """Return a PNG of a scene in true colour, decimated for a page; grey where unobserved."""
    dn, valid = decimated(scene)
    picture = np.rint(255 * true_colour(rgb_reflectance(scene, dn), valid)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="png")
    return stream.getvalue()
