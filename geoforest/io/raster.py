"""Rasters opened from a disk or a server, the same in every environment."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from geoforest.io.gdal import check_installation, pinned
from geoforest.io.remote import gdal_path, network_options, patiently

if TYPE_CHECKING:
    from pathlib import Path


RASTER_ERRORS: Final = (RasterioError, CPLE_BaseError)
"""Errors of reading a raster: rasterio's, and those of GDAL that some of its properties raise."""


def open_raster(path: str | Path, **options: Any) -> rasterio.DatasetReader:
    """Open a raster, without a warning when it has no georeference: callers check that themselves.

    Opening and reading depend on no setting of GDAL in the environment, see
    :mod:`geoforest.io.gdal`. ``path`` may be a URL, see :func:`geoforest.io.remote.gdal_path`; it
    is tried several times. ``options`` are those of GDAL's format.

    Raises
    ------
    rasterio.errors.RasterioIOError
        When GDAL cannot open it.
    InputError
        When GDAL or PROJ of this installation cannot be used.
    """
    check_installation()
    name = gdal_path(str(path))
    # The session has the keys of the environment, where there are any.
    session = rasterio.Env().session
    with warnings.catch_warnings(), pinned(session, **network_options(name)):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return patiently(lambda: _Reader(name, **options), name)


class _Reader(rasterio.DatasetReader):  # type: ignore[misc] # rasterio has no types
    """Raster whose sources, masks and blocks, which GDAL opens late, are read with pinned settings.

    Methods as in rasterio.
    """

    def read(self, *args: Any, **options: Any) -> Any:
        with pinned():
            return super().read(*args, **options)

    def read_masks(self, *args: Any, **options: Any) -> Any:
        with pinned():
            return super().read_masks(*args, **options)

    def dataset_mask(self, *args: Any, **options: Any) -> Any:
        with pinned():
            return super().dataset_mask(*args, **options)

    def overviews(self, index: int) -> Any:
        with pinned():
            return super().overviews(index)

    @property
    def mask_flag_enums(self) -> Any:
        with pinned():
            return super().mask_flag_enums

    @property
    def files(self) -> Any:
        with pinned():
            return super().files
