"""List all files of an input and their versions, for the fingerprint of a job."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from geoforest.errors import SceneError
from geoforest.io.raster import RASTER_ERRORS, open_raster
from geoforest.io.reach import refuse_inward
from geoforest.io.remote import gdal_path, is_remote, reason, remote_stamp, shown
from geoforest.scenes.other_formats import absolute_name, inner_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    import rasterio

    from geoforest.scenes.scene import FileStamp

_TIFFS = {".tif", ".tiff"}
_RASTERS = _TIFFS | {".vrt"}
# Offset and size of a block, at least two bytes each.
_BLOCK_ENTRY_BYTES = 4
_VIRTUAL_RASTER = "vrt://"
_SERVERS = re.compile(r"(?:/vsi(?:zip|tar|gzip)(?:/\{)?/?(?=/vsi))*/vsi(?:curl|s3|gs)/")
# GDAL leaves absolute names as they are, and looks for paths in those with a colon.
_RELATIVE = re.compile(r"[^/:][^:]*")
# Formats of GDAL that hold addresses instead of pixels.
_LEADING_ON = {"WMS", "WMTS", "WCS", "OGCAPI", "GTI", "STACIT", "STACTA", "PLMOSAIC", "DAAS"}
_SOURCES = {"SourceFilename", "SourceDataset"}
_WEB = re.compile(r"https?://[^\s}]+")


def is_virtual(path: str) -> bool:
    """Return whether a path is in one of GDAL's virtual file systems, such as in an archive."""
    return path.startswith(("/vsi", _VIRTUAL_RASTER))


def absolute(path: str) -> str:
    """Return an absolute path; paths of GDAL's virtual file systems are not changed."""
    # pathlib would turn /vsizip//a.zip into /vsizip/a.zip, which is another file.
    path = gdal_path(path)
    if is_virtual(path):
        return path
    if (file := inner_file(path)) is not None:
        return absolute_name(path, file)
    return str(Path(path).absolute())


def files_behind(opened: Mapping[str, rasterio.DatasetReader]) -> list[str]:
    """List all files that rasters are read from, sorted, with the sources of virtual rasters.

    Parameters
    ----------
    opened
        Open rasters by path. This function opens each of their sources once.

    Raises
    ------
    SceneError
        When a file is missing or not a raster (the message names the file that needs it), or when
        blocks of a local TIFF lie beyond the end of the file.
    """
    found: set[str] = set()
    waiting = [(absolute(path), path) for path in opened]
    already_open = {absolute(path): source for path, source in opened.items()}
    while waiting:
        path, needed_by = waiting.pop()
        if (file := inner_file(path)) is not None:
            path = absolute(file)
        if path in found:
            continue
        if not (is_virtual(path) or Path(path).is_file()):
            raise SceneError(f"{path}: no such file, and {shown(needed_by)} needs it")
        found.add(path)
        is_raster = Path(shown(path)).suffix.lower() in _RASTERS
        if not (is_raster or path.startswith(_VIRTUAL_RASTER)):
            continue
        try:
            with ExitStack() as stack:
                source = already_open.get(path) or stack.enter_context(open_raster(path))
                # GDAL lists one level only: a VRT of VRTs does not list their sources.
                _check_reach(source, path)
                waiting += [(_of_source(name, path), path) for name in source.files]
                _check_not_truncated(source, Path(path))
        except RASTER_ERRORS as error:
            raise SceneError(
                f"{shown(path)}: cannot be read, and {shown(needed_by)} needs it "
                f"({reason(error, path)})"
            ) from error
    return sorted(found)


def _check_reach(source: rasterio.DatasetReader, path: str) -> None:
    """Refuse a virtual raster on a server that leads to this machine.

    GDAL does not list sources that are no plain files, so the names in its XML are checked as well.
    """
    if not is_remote(path):
        return
    if source.driver in _LEADING_ON:
        raise SceneError(
            f"{shown(path)}: is a description ({source.driver}) of rasters elsewhere; the raster "
            "itself was wanted"
        )
    names = list(source.files)
    if source.driver == "VRT":
        (xml,) = source.tags(ns="xml:VRT").values()
        names += _named_sources(xml, shown(path))
    for name in names:
        if not _SERVERS.match(name):
            raise SceneError(
                f"{shown(path)}: names {name[:200]}; a virtual raster on a server may name only "
                "files on servers"
            )
        for url in _WEB.findall(name):
            refuse_inward(url, next(iter(_WEB.findall(path)), path))


def _named_sources(xml: str, name: str) -> list[str]:
    """Return the sources that a virtual raster names, except those relative to itself."""
    try:
        elements = fromstring(xml, forbid_dtd=True).iter()
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise SceneError(f"{name}: broken or forbidden XML ({error!s:.80})") from error
    return [
        element.text or ""
        for element in elements
        if str(element.tag) in _SOURCES
        and not (element.get("relativeToVRT") == "1" and _RELATIVE.fullmatch(element.text or ""))
    ]


def _of_source(name: str, needed_by: str) -> str:
    """Return the absolute path of a file that another one names."""
    try:
        return absolute(name)
    except SceneError as error:
        raise SceneError(f"{error}, and {shown(needed_by)} needs it") from error


def _check_not_truncated(source: rasterio.DatasetReader, path: Path) -> None:
    """Refuse a local TIFF whose block offsets point beyond the end of the file."""
    if path.suffix.lower() not in _TIFFS or not path.is_file():
        return
    size = path.stat().st_size
    interleaved = source.interleaving is not None and source.interleaving.name == "pixel"
    for index in [1] if interleaved else source.indexes:
        rows, cols = source.block_shapes[index - 1]
        n_blocks = -(-source.height // rows) * -(-source.width // cols)
        if n_blocks * _BLOCK_ENTRY_BYTES > size:
            raise SceneError(
                f"{path}: truncated or damaged: the file has {size} bytes, and tells of "
                f"{n_blocks:,} blocks in band {index}"
            )
        for row in range(-(-source.height // rows)):
            for col in range(-(-source.width // cols)):
                block = f"{col}_{row}"
                offset = source.get_tag_item(f"BLOCK_OFFSET_{block}", "TIFF", bidx=index)
                length = source.get_tag_item(f"BLOCK_SIZE_{block}", "TIFF", bidx=index)
                if offset is not None and int(offset) + int(length or 0) > size:
                    raise SceneError(
                        f"{path}: truncated: the file has {size} bytes, but a block of band "
                        f"{index} ends at {int(offset) + int(length or 0)}"
                    )


def stamp(file: str) -> FileStamp:
    """Return name, size and modification time of a file, or of the archive that holds it."""
    if is_remote(file):
        return shown(gdal_path(file)), *remote_stamp(file)
    real = Path(file)
    if is_virtual(file):
        # For example, /vsizip//data/scenes.zip/a.tif is in /data/scenes.zip.
        inside = Path(file.split("/", 2)[2])
        archives = [path for path in (inside, *inside.parents) if path.is_file()]
        if not archives:
            return file, -1, -1
        real = archives[0]
    status = real.stat()
    return file, status.st_size, status.st_mtime_ns
