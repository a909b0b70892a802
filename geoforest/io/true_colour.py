"""Red, green and blue of a mapped scene as one virtual raster, where they are files on disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import RasterioIOError

from geoforest.grid import PREVIEW_PX
from geoforest.io.raster import open_raster
from geoforest.names import JOB_NAME
from geoforest.storage import read_json
from geoforest.types import Shape

_WANTED: Final = ("B04", "B03", "B02")
_COLOURS: Final = ("Red", "Green", "Blue")
_TYPES: Final = {
    "uint8": "Byte",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "float32": "Float32",
    "float64": "Float64",
}
# As in the pictures of the reports.
_PERCENTILES: Final = (1, 98)


@dataclass(frozen=True)
class Band:
    """One band of a scene.

    Attributes
    ----------
    path, index
        File on disk, and the 1-based number of the band in it.
    dtype
        NumPy name of the stored type.
    nodata
        Stored value that marks unobserved pixels, or None.
    """

    path: Path
    index: int
    dtype: str
    nodata: float | None


@dataclass(frozen=True)
class TrueColour:
    """Red, green and blue of a scene.

    Attributes
    ----------
    bands
        In this order.
    shape, transform, crs
        The grid, the same for all.
    stretch
        Stored values that are shown as black, and as full colour.
    """

    bands: tuple[Band, ...]
    shape: Shape
    transform: Affine
    crs: CRS
    stretch: tuple[float, float]

    def vrt(self, path: Path) -> bytes:
        """Give the content of a virtual raster.

        Parameters
        ----------
        path
            Where it will lie: files are named relative to it.
        """
        # GDAL leaves it to the system where .. leads: out of the folder that a link is to.
        here = path.parent.resolve()
        rows, cols = self.shape
        size = f'xSize="{cols}" ySize="{rows}"'
        parts = []
        for number, (band, colour) in enumerate(zip(self.bands, _COLOURS, strict=True), 1):
            name = Path(os.path.relpath(band.path.resolve(), here)).as_posix()
            nodata = "" if band.nodata is None else f"<NoDataValue>{band.nodata}</NoDataValue>"
            parts.append(
                f'<VRTRasterBand dataType="{_TYPES[band.dtype]}" band="{number}">{nodata}'
                f"<ColorInterp>{colour}</ColorInterp><SimpleSource>"
                f'<SourceFilename relativeToVRT="1">{escape(name)}</SourceFilename>'
                f"<SourceBand>{band.index}</SourceBand>"
                f'<SrcRect xOff="0" yOff="0" {size}/><DstRect xOff="0" yOff="0" {size}/>'
                "</SimpleSource></VRTRasterBand>\n"
            )
        numbers = ", ".join(repr(float(number)) for number in self.transform.to_gdal())
        return (
            f'<VRTDataset rasterXSize="{cols}" rasterYSize="{rows}">\n'
            f"<SRS>{escape(self.crs.to_wkt())}</SRS><GeoTransform>{numbers}</GeoTransform>\n"
            f"{''.join(parts)}</VRTDataset>\n"
        ).encode()


def bands_on_disk(folder: Path) -> TrueColour | None:
    """Find the bands that a map was made of; None where they are not there as files on disk.

    Those in an archive or on a server, or of different grids, count as not there.

    Parameters
    ----------
    folder
        Of the map, with its ``job.json``.
    """
    try:
        recorded = (read_json(folder / JOB_NAME) or {})["identity"]["bands"]
        by_name = {
            name: (Path(path), index, nodata and float(nodata))
            for name, path, index, nodata, _ in recorded
        }
        chosen = [by_name[name] for name in _WANTED]
    except (KeyError, TypeError, ValueError):  # of another version, or without one of the bands
        return None
    if not all(path.is_file() for path, _, _ in chosen):
        return None
    bands, grids, seen = [], [], []
    try:
        for path, index, nodata in chosen:
            with open_raster(path) as source:
                bands.append(Band(path, index, source.dtypes[index - 1], nodata))
                grids.append((source.shape, source.transform, source.crs))
                seen.append(_observed(source, index, nodata))
    except (RasterioIOError, IndexError):
        return None
    values = np.concatenate(seen)
    same_grid = all(grid == grids[0] for grid in grids)
    if not same_grid or not values.size or any(band.dtype not in _TYPES for band in bands):
        return None
    low, high = (float(value) for value in np.percentile(values, _PERCENTILES))
    return TrueColour(tuple(bands), *grids[0], (low, max(high, low + 1e-9)))


def _observed(source: Any, index: int, nodata: float | None) -> NDArray[Any]:
    """Values of a band at the size of a picture."""
    step = max(1.0, max(source.shape) / PREVIEW_PX)
    shape = tuple(max(1, round(side / step)) for side in source.shape)
    values: NDArray[Any] = source.read(index, out_shape=shape)
    # Sentinel-2 has 0 where nothing was seen, told or not.
    return values[np.isfinite(values) & (values != nodata) & (values != 0)]
