"""Inputs that are no raster, folder of bands or product: what they are, and the way out.

GDAL names a raster inside a file ``DRIVER:FILE:NAME``. Only the drivers of :data:`SUBDATASETS` are
read that way: others apply no offset (``SENTINEL2_L2A``), or read whole folders or servers.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from geoforest.errors import SceneError
from geoforest.io.remote import is_url, pure_path, shown

if TYPE_CHECKING:
    from collections.abc import Collection

    import rasterio

SUBDATASETS: Final = ("NETCDF", "HDF5")
"""Drivers whose ``DRIVER:FILE:NAME`` is read."""
_NAMED: Final = (
    *SUBDATASETS,
    *("BAG", "DERIVED_SUBDATASET", "GPKG", "GRIB", "GTIFF_DIR", "GTIFF_RAW", "HDF4_EOS"),
    *("HDF4_SDS", "MBTILES", "MEM", "PDS4", "RASTERLITE", "S102", "SENTINEL2_L1B"),
    *("SENTINEL2_L1C", "SENTINEL2_L1C_TILE", "SENTINEL2_L2A", "STACIT", "STACTA", "TILEDB", "WCS"),
    *("WMS", "WMTS", "ZARR"),
)
_SUBDATASET: Final = re.compile(
    rf"({'|'.join(_NAMED)}):(?:\"(?P<quoted>[^\"]+)\"|(?P<plain>.+?))(?::(?P<inside>.*))?",
    re.IGNORECASE,
)
_ZARR_FILES: Final = {".zgroup", ".zarray", ".zattrs", ".zmetadata", "zarr.json"}
_ZARR: Final = (
    "is Zarr, as EOPF writes Sentinel-2 products; a SAFE product or GeoTIFFs were wanted (the "
    "Copernicus Data Space has the same product as SAFE, and gdal_translate makes a GeoTIFF of "
    "each band)"
)
_MAJA_FILE: Final = re.compile(r"SENTINEL2[A-D]_[^/]*_(?:FRE|SRE)_B\w+\.tif", re.IGNORECASE)
_MOST_NAMES: Final = 6


def inner_file(path: str) -> str | None:
    """Return the file of a sub-dataset's name ``DRIVER:FILE:NAME``; None for any other path.

    Raises
    ------
    SceneError
        When its driver is not one that is read.

    Examples
    --------
    >>> inner_file('NETCDF:"/data/a.nc":B04'), inner_file("HDF5:a.h5://B04"), inner_file("a.tif")
    ('/data/a.nc', 'a.h5', None)
    """
    found = None if Path(path).exists() else _SUBDATASET.fullmatch(path)
    if found is None:
        return None
    driver = found.group(1).upper()
    if driver not in SUBDATASETS:
        raise SceneError(
            f"{shown(path)}: is a name for GDAL's driver {driver}; a file or folder was wanted"
            f"{_way_out(driver)}"
        )
    return found["quoted"] or found["plain"]


def absolute_name(path: str, file: str) -> str:
    """Return the name of a sub-dataset of ``file`` with an absolute path."""
    found = _SUBDATASET.fullmatch(path)
    assert found is not None
    inside = "" if found["inside"] is None else f":{found['inside']}"
    return f'{found.group(1).upper()}:"{Path(file).absolute()}"{inside}'


def refuse_zarr(location: str, names: Collection[str] = ()) -> None:
    """Refuse a Zarr store.

    Parameters
    ----------
    location
        Path or URL.
    names
        Names of the files in the folder, where they are known.

    Raises
    ------
    SceneError
        When it is one.
    """
    is_named = pure_path(location).name.lower().endswith((".zarr", ".zarr.zip"))
    is_there = is_url(location) or Path(location).exists()
    if (is_named and is_there) or _ZARR_FILES & set(names):
        raise SceneError(f"{shown(location)}: {_ZARR}")


def kind_of_archive(names: Collection[str]) -> str | None:
    """Say what a zip archive with files of these names is; None for anything unknown."""
    last = {name.rpartition("/")[2] for name in names}
    if last & _ZARR_FILES:
        return _ZARR
    if any(map(_MAJA_FILE.fullmatch, last)):
        return "is a product of Theia (MAJA), packed; its folder, unpacked, was wanted"
    if any(name.lower().endswith(".dim") for name in last):
        return "is a product of SNAP, packed; its .data folder, unpacked, was wanted"
    return None


def snap_folder(location: str) -> str:
    """Return the ``.data`` folder beside a ``.dim`` file of SNAP; other locations as they are.

    Raises
    ------
    SceneError
        When there is no such folder.
    """
    path = Path(location)
    if path.suffix.lower() != ".dim" or not path.is_file():
        return location
    folder = path.with_suffix(".data")
    if not folder.is_dir():
        raise SceneError(
            f"{location}: is the header of a SNAP product, whose bands are in {folder.name}, and "
            "there is no such folder beside it"
        )
    return str(folder)


def check_has_bands(source: rasterio.DatasetReader) -> None:
    """Refuse a file that holds sub-datasets and no bands of its own.

    Raises
    ------
    SceneError
        When it is one; names some of them.
    """
    inside = source.subdatasets
    if source.count or not inside:
        return
    # rasterio gives the driver in small letters.
    first = ":".join((inside[0].partition(":")[0].upper(), inside[0].partition(":")[2]))
    names = [name.rpartition(":")[2].lstrip("/") for name in inside[:_MOST_NAMES]]
    more = ", ..." if len(inside) > _MOST_NAMES else ""
    raise SceneError(
        f"{shown(source.name)}: holds {len(inside)} sub-datasets ({', '.join(names)}{more}) and no "
        "bands of its own; one raster of its bands was wanted, such as a VRT (gdalbuildvrt "
        f"-separate bands.vrt {first} ..., and --bands 1,2,3,4), or a folder with one file per "
        f"band (gdal_translate {first} B04.tif)"
    )


def _way_out(driver: str) -> str:
    if driver.startswith("SENTINEL2_"):
        return ", here the product's folder, zip archive or MTD_MSIL2A.xml itself"
    if driver == "ZARR":
        return "; gdal_translate makes a GeoTIFF of it, one per band"
    return "; gdal_translate makes a GeoTIFF of it"
