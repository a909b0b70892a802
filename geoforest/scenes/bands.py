"""Find the file and band number of each band, in one raster or in a folder of band files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fsspec.implementations.local import LocalFileSystem

from geoforest.errors import InputError, SceneError
from geoforest.io.files import Place, open_place
from geoforest.io.remote import is_remote, is_url, pure_path, shown
from geoforest.scenes.clouds.scl import is_scene_classification
from geoforest.scenes.scene import BandSource, band_name, is_exactly_a_band
from geoforest.scenes.stamps import absolute

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import rasterio

BAND_FILES = {".tif", ".tiff", ".jp2", ".vrt", ".img"}
"""Suffixes of rasters, in lower case."""


def band_folder(location: str) -> Place | None:
    """Return the folder of band files at a location; None when it is a file or does not exist."""
    if not is_remote(location):
        # Not parsed as a URL: a folder on disk may have any name.
        local = Place(location, str(Path(location).absolute()), LocalFileSystem())
        return local if Path(location).is_dir() else None
    if not is_url(location) or pure_path(location).suffix.lower() in BAND_FILES:
        return None
    if location.lower().startswith(("http://", "https://")):
        # Web servers offer no reliable listing of a folder.
        return None
    try:
        place = open_place(location)
        return place if place.is_folder() else None
    except InputError as error:
        raise SceneError(str(error)) from error


def band_files(folder: Place, wanted: Sequence[str]) -> list[str]:
    """Find the file of each band, in the order wanted."""
    candidates: dict[str, list[Place]] = {name: [] for name in wanted}
    for item in folder.children() or ():
        name = band_name(item.stem)
        # macOS leaves hidden files beside those it copies.
        if not item.name.startswith(".") and item.suffix in BAND_FILES and name in candidates:
            candidates[name].append(item)
    for name, files in candidates.items():
        exact = [file for file in files if is_exactly_a_band(file.stem)]
        if exact:
            # Such as B4.img beside B4_cleaned.img.
            files[:] = exact
        if not files:
            raise SceneError(
                f"{folder}: band {name} is missing: one file per band was wanted, named such as "
                f"{name}.tif, for {', '.join(wanted)}"
            )
        if len(files) > 1:
            raise SceneError(
                f"{folder}: {len(files)} files for band {name}: "
                f"{', '.join(file.name for file in files)}; one was wanted"
            )
    return [str(files[0]) for files in candidates.values()]


def classification_file(folder: Place) -> str | None:
    """Find the scene classification (SCL) in a folder of bands; None when there is none."""
    found = [
        item
        for item in folder.children() or ()
        if not item.name.startswith(".")
        and item.suffix in BAND_FILES
        and is_scene_classification(item.stem)
    ]
    if len(found) > 1:
        raise SceneError(
            f"{folder}: {len(found)} scene classifications: "
            f"{', '.join(item.name for item in found)}; one was wanted"
        )
    return absolute(str(found[0])) if found else None


def raster_bands(
    path: str,
    source: rasterio.DatasetReader,
    wanted: Sequence[str],
    bands: Sequence[int] | None,
) -> list[BandSource]:
    """Find the wanted bands of one raster, in this order, by their numbers or descriptions."""
    names = [
        band_name(text or source.tags(index).get("NETCDF_VARNAME", ""))
        for index, text in zip(source.indexes, source.descriptions, strict=True)
    ]
    if bands is None:
        bands = _bands_by_description(shown(path), names, wanted)
    elif len(bands) != len(wanted):
        raise SceneError(
            f"{shown(path)}: --bands gives {len(bands)} band numbers, the model needs "
            f"{len(wanted)}: {', '.join(wanted)}"
        )
    for index in bands:
        if not 1 <= index <= source.count:
            raise SceneError(
                f"{shown(path)}: --bands asks for band {index}, the file has {source.count}"
            )
    return [BandSource(name, path, index) for name, index in zip(wanted, bands, strict=True)]


def single_bands(
    opened: Mapping[str, rasterio.DatasetReader], wanted: Sequence[str]
) -> list[BandSource]:
    """Return the single band of each file, in the order wanted."""
    for file, source in opened.items():
        if source.count != 1:
            raise SceneError(f"{shown(file)}: has {source.count} bands, one was wanted")
    return [BandSource(name, file, 1) for name, file in zip(wanted, opened, strict=True)]


def _bands_by_description(
    path: str, names: Sequence[str | None], wanted: Sequence[str]
) -> list[int]:
    missing = [name for name in wanted if name not in names]
    if missing:
        found = ", ".join(name or "without a name" for name in names)
        way_out = (
            "if they are there, give their numbers in this order with --bands, such as --bands "
            "1,2,3,4"
        )
        if len(names) < len(wanted):
            way_out = (
                "one raster of them is a VRT (gdalbuildvrt -separate bands.vrt, and their files in "
                "this order), given with --bands 1,2,3,4"
            )
        raise SceneError(
            f"{path}: band {missing[0]} is missing: its {len(names)} band(s) are {found}, and "
            f"{', '.join(wanted)} are wanted; {way_out}"
        )
    twice = [name for name in wanted if names.count(name) > 1]
    if twice:
        raise SceneError(f"{path}: band {twice[0]} is there twice; choose with --bands")
    return [names.index(name) + 1 for name in wanted]
