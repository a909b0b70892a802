"""Rasters opened without rasterio's warning about those that have no georeference."""

from __future__ import annotations

import warnings
from pathlib import Path

import rasterio
from rasterio.errors import NotGeoreferencedWarning


def open_raster(path: str | Path) -> rasterio.DatasetReader:
    """Open a raster; where it lies is checked, and told, by who needs to know.

    Raises
    ------
    rasterio.errors.RasterioIOError
        When GDAL cannot open it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path)
