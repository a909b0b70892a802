"""GDAL's settings: those that change pixels or geometries are the same in every environment.

GDAL reads hundreds of settings from environment variables and from files named ``gdalrc``. Some of
them hide masks, nodata values or georeferences, or turn read errors into zeros. Each file is
opened and read with these at GDAL's own defaults, whatever the environment says. Settings of speed,
networks and keys are left to the user.
"""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Final

import rasterio
from rasterio.crs import CRS
from rasterio.env import get_gdal_config, hasenv
from rasterio.session import DummySession

from geoforest.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rasterio.session import Session

RASTERS: Final[dict[str, str]] = {
    # Files beside a raster: masks (.msk), nodata and georeferences (.aux.xml, .wld).
    "GDAL_DISABLE_READDIR_ON_OPEN": "FALSE",
    "GDAL_READDIR_LIMIT_ON_OPEN": "1000",
    "GDAL_PAM_ENABLED": "YES",
    "GDAL_PAM_MODE": "PAM",
    "GDAL_GEOREF_SOURCES": "PAM,INTERNAL,TABFILE,WORLDFILE,XML,OTHER",
    "USE_RRD": "NO",
    "TIFF_USE_OVR": "NO",
    # Errors become errors, not zeros.
    "GTIFF_IGNORE_READ_ERRORS": "NO",
    "GDAL_STACTA_SKIP_MISSING_METATILE": "NO",
    # Which numbers a file yields.
    "GTIFF_FORCE_RGBA": "NO",
    "CONVERT_YCBCR_TO_RGB": "YES",
    "GDAL_JPEG_TO_RGB": "YES",
    "GDAL_RASTERIO_RESAMPLING": "NEAREST",
    "GDAL_NO_COSTLY_OVERVIEW": "NO",
    "GTIFF_DIRECT_IO": "NO",
    "GTIFF_VIRTUAL_MEM_IO": "NO",
    "TIFF_READ_STREAMING": "NO",
    "VRT_VIRTUAL_OVERVIEWS": "NO",
    "VRT_SHARED_SOURCE": "TRUE",
    # Masks.
    "GDAL_TIFF_INTERNAL_MASK_TO_8BIT": "TRUE",
    "JPEG_READ_MASK": "YES",
    "JPEG_MASK_BIT_ORDER": "AUTO",
    "JP2OPENJPEG_PROMOTE_1BIT_ALPHA_AS_8BIT": "YES",
    # Where the pixels lie.
    "GTIFF_POINT_GEO_IGNORE": "FALSE",
    "GTIFF_HONOUR_NEGATIVE_SCALEY": "NO",
    "GTIFF_LINEAR_UNITS": "DEFAULT",
    "GTIFF_READ_ANGULAR_PARAMS_IN_DEGREE": "NO",
    "GDAL_USE_GEOJP2": "TRUE",
    "GDAL_USE_GMLJP2": "TRUE",
    "GDAL_IGNORE_AXIS_ORIENTATION": "FALSE",
    "GDAL_JP2K_ALT_OFFSETVECTOR_ORDER": "FALSE",
    "GDAL_NETCDF_ASSUME_LONGLAT": "NO",
    "GDAL_NETCDF_CENTERLONG_180": "YES",
    "GDAL_NETCDF_IGNORE_XY_AXIS_NAME_CHECKS": "NO",
    "GDAL_NETCDF_IGNORE_EQUALLY_SPACED_XY_CHECK": "NO",
    "OSR_STRIP_TOWGS84": "YES",
    "OSR_USE_APPROX_TMERC": "NO",
    "OSR_USE_NON_DEPRECATED": "YES",
    "OSR_ADD_TOWGS84_ON_IMPORT_FROM_EPSG": "NO",
    "OGR_CT_FORCE_TRADITIONAL_GIS_ORDER": "NO",
    "OGR_ENABLE_PARTIAL_REPROJECTION": "NO",
    # Threads that GDAL starts would not know these settings.
    "VRT_NUM_THREADS": "1",
    "GTI_NUM_THREADS": "1",
    # Writing: blocks left out, overviews that lose nodata.
    "GTIFF_DONT_WRITE_BLOCKS": "NO",
    "GDAL_OVR_PROPAGATE_NODATA": "NO",
}
"""Settings for rasters, at GDAL's defaults."""

VECTORS: Final[dict[str, str]] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "FALSE",
    # Layers and features that would be left out, or come back from the dead.
    "OGR_TABLE_LIMIT": "10000",
    "GML_SKIP_CORRUPTED_FEATURES": "NO",
    "OPENFILEGDB_REPORT_DELETED_FEATURES": "NO",
    "ATTRIBUTES_SKIP": "NO",
    "GEOMETRY_AS_COLLECTION": "NO",
    # Outlines and holes.
    "OGR_ORGANIZE_POLYGONS": "DEFAULT",
    "OGR_GEOMETRY_ACCEPT_UNCLOSED_RING": "YES",
    "OGR_APPLY_GEOM_SET_PRECISION": "NO",
    "OGR_STROKE_CURVE": "NO",
    "OGR_ARC_STEPSIZE": "4",
    "OGR_ARC_MAX_GAP": "0",
    "OGR_SHAPE_ALLOW_NON_FINITE_COORDINATES": "NO",
    "DXF_CLOSED_LINE_AS_POLYGON": "NO",
    "GML_FACE_HOLE_NEGATIVE": "NO",
    "GML_GET_SECONDARY_GEOM": "NO",
    # Which coordinate comes first.
    "GML_INVERT_AXIS_ORDER_IF_LAT_LONG": "YES",
    "GML_CONSIDER_EPSG_AS_URN": "AUTO",
    "GML_SWAP_COORDINATES": "AUTO",
}
"""Settings for vector files, at GDAL's defaults."""

_DRIVERS: Final = ("GTiff", "COG", "VRT", "MEM", "JP2OpenJPEG")
_ZONE: Final = 32720
_PROJ_VARIABLES: Final = ("PROJ_DATA", "PROJ_LIB")


@contextmanager
def pinned(session: Session | None = None, **options: str | float) -> Iterator[None]:
    """Open, read and write rasters in the block with :data:`RASTERS`, whatever was set before.

    Parameters
    ----------
    session
        Keys of a server; by default those of an outer environment are left alone.
    **options
        More settings of GDAL, which come before :data:`RASTERS`.
    """
    settings = {**RASTERS, **options}
    with ExitStack() as held:
        if not hasenv():
            # The outermost environment of rasterio would make the values of variables permanent.
            own = [name for name in settings if name not in os.environ]
            values = {name: get_gdal_config(name, normalize=False) for name in own}
            found = {name: value for name, value in values.items() if value is not None}
            held.enter_context(rasterio.Env(session=DummySession(), **found))
        held.enter_context(rasterio.Env(session=session or DummySession(), **settings))
        yield


_lock = threading.Lock()
_before: list[dict[str, str | None]] = []
_users = 0


@contextmanager
def pinned_vectors() -> Iterator[None]:
    """Read and write vector files in the block with :data:`VECTORS`.

    These settings belong to the process: the last of several blocks at once restores them.
    """
    import pyogrio

    check_installation()
    global _users  # noqa: PLW0603 (blocks of several threads share the process's settings)
    with _lock:
        _users += 1
        if _users == 1:
            _before.append(
                {
                    # A variable stays one: its value is not made permanent.
                    name: None if name in os.environ else pyogrio.get_gdal_config_option(name)
                    for name in VECTORS
                }
            )
            pyogrio.set_gdal_config_options(VECTORS)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                pyogrio.set_gdal_config_options(_before.pop())


@cache
def check_installation() -> None:
    """Check once per process that PROJ's database and GDAL's formats are usable.

    Raises
    ------
    InputError
        When PROJ reads the database of another installation, or a format is switched off.
    """
    if fault := _proj_fault():
        named = [name for name in _PROJ_VARIABLES if os.environ.get(name)]
        place = "".join(f", {name}={os.environ[name]}," for name in named)
        remedy = f"unset {' and '.join(named)}" if named else "install rasterio and pyproj again"
        raise InputError(
            f"PROJ's database{place} is damaged or of another installation ({fault}); {remedy}"
        )
    with rasterio.Env() as environment:
        missing = [name for name in _DRIVERS if name not in environment.drivers()]
    if missing:
        raise InputError(
            f"GDAL does not know the format {missing[0]}: GDAL_SKIP={os.environ.get('GDAL_SKIP')}; "
            "unset it"
        )


def _proj_fault() -> str | None:
    """Return what goes wrong in a CRS by its code, in rasterio or pyproj; None when all is well."""
    import pyproj

    try:
        with rasterio.Env():
            code = CRS.from_wkt(CRS.from_epsg(_ZONE).to_wkt()).to_epsg()
        if code != _ZONE:
            return f"rasterio finds EPSG:{_ZONE} as {code}"
    except Exception as error:  # noqa: BLE001 (GDAL's errors are of many classes)
        return f"rasterio: {_one_line(error)}"
    try:
        code = pyproj.CRS.from_wkt(pyproj.CRS.from_epsg(_ZONE).to_wkt()).to_epsg()
        move = pyproj.Transformer.from_crs(_ZONE, 4326, always_xy=True)
        lon, lat = move.transform(500_000.0, 10_000_000.0)
    except Exception as error:  # noqa: BLE001 (pyproj's errors have no common class with SQLite's)
        return f"pyproj: {_one_line(error)}"
    if code != _ZONE or abs(lon + 63) > _EXACT or abs(lat) > _EXACT:
        return f"pyproj finds EPSG:{_ZONE} as {code}, its origin at {lon:.3f}, {lat:.3f}"
    return None


_EXACT: Final = 1e-6


def _one_line(error: Exception) -> str:
    """Return the text of an error, without PROJ's function names and queries."""
    text = " ".join(str(error).split())
    return text.rpartition("internal_proj_create_from_database: ")[2].partition(" on SELECT ")[0]
