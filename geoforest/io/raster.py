"""Rasters opened from a disk or a server, without rasterio's warning of a missing CRS."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from geoforest.io.remote import gdal_path, network_options, patiently

if TYPE_CHECKING:
    from pathlib import Path


RASTER_ERRORS: Final = (RasterioError, CPLE_BaseError)
"""Errors of reading a raster: rasterio's, and those of GDAL that some of its properties raise."""


def open_raster(path: str | Path, **options: Any) -> rasterio.DatasetReader:
    """Open a raster. Callers that need a georeference check it themselves.

    ``path`` may be a URL, see :func:`geoforest.io.remote.gdal_path`; it is tried several times.
    ``options`` are GDAL's.

    Raises
    ------
    rasterio.errors.RasterioIOError
        When GDAL cannot open it.
    """
    name = gdal_path(str(path))
    with warnings.catch_warnings(), rasterio.Env(**network_options(name)):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return patiently(lambda: rasterio.open(name, **options), name)
