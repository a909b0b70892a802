"""Read a finished map, or a comparison of two, as the strata of a sample."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rasterio.errors import RasterioIOError

from geoforest.arrays.georef import GeoRef
from geoforest.arrays.stitch import mask_from_probability
from geoforest.errors import InputError, ReadError
from geoforest.io.cog import CATEGORIES, read_strips
from geoforest.io.raster import open_raster
from geoforest.io.storage import file_sha256, read_json
from geoforest.maps.change import codes as change
from geoforest.maps.finished import read_finished
from geoforest.types import NO_OBSERVATION, Array

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from geoforest.arrays.grid import Window

MAP_NAMES: Final = {code: name for code, name in CATEGORIES.items() if code != NO_OBSERVATION}
CHANGE_NAMES: Final = {code: name for code, name in change.NAMES.items() if code != NO_OBSERVATION}
# "Uncertain" is a stratum of the map, but not a class that a person could see on the ground.
CHANGE_CLASSES: Final = {
    code: name for code, name in CHANGE_NAMES.items() if code != change.UNCERTAIN
}

_DATES: Final = ("earlier", "later")


@dataclass(frozen=True)
class StratifiedMap:
    """A raster in which each code is one stratum.

    Attributes
    ----------
    raster
        Path of the raster: stored probability, or codes.
    scene_id
        Id of the scene; of both scenes for a comparison.
    sha256
        Checksum of the raster.
    threshold
        Probability at or above which a pixel is forest; None for a raster of codes.
    names
        Code to name of each stratum.
    classes
        Those of ``names`` that a label may be.
    georef
        Grid of the raster.
    maps
        Scene id to output folder of each map that the raster was made from, the earliest first.
    """

    raster: Path
    scene_id: str
    sha256: str
    threshold: float | None
    names: Mapping[int, str]
    classes: Mapping[int, str]
    georef: GeoRef
    maps: Mapping[str, Path]

    def strips(self) -> Iterator[tuple[Window, Array]]:
        """Yield windows and codes, uint8, from top to bottom; 255 is no observation.

        Raises
        ------
        ReadError
            When the raster cannot be read to its end.
        """
        try:
            for window, values in read_strips(self.raster):
                threshold = self.threshold
                yield (
                    window,
                    (values if threshold is None else mask_from_probability(values, threshold)),
                )
        except RasterioIOError as error:
            raise ReadError(f"{self.raster}: cannot be read to its end ({error})") from error


def read_stratified(folder: str | Path) -> StratifiedMap:
    """Read the output of ``geoforest map`` or ``geoforest change`` in a folder as strata.

    Raises
    ------
    InputError
        When the folder holds neither.
    """
    folder = Path(folder)
    summary = read_json(folder / change.SUMMARY_NAME)
    if summary is None:
        finished = read_finished(folder)
        names = classes = MAP_NAMES
        raster, scene_id = finished.probability, finished.scene_id
        sha256, threshold = finished.sha256, finished.threshold
    else:
        names, classes = CHANGE_NAMES, CHANGE_CLASSES
        raster, threshold = folder / change.CHANGE_NAME, None
        try:
            scene_id = " to ".join(summary[date]["scene_id"] for date in _DATES)
            sha256 = file_sha256(raster)
        except (KeyError, TypeError, OSError) as error:
            raise InputError(
                f"{folder}: no finished comparison; an output folder of geoforest map or of "
                "geoforest change was wanted"
            ) from error
    try:
        with open_raster(raster) as source:
            georef = GeoRef.of(source, raster)
    except RasterioIOError as error:
        raise InputError(f"{raster}: not a raster that GDAL can read ({error})") from error
    return StratifiedMap(
        raster=raster,
        scene_id=scene_id,
        sha256=sha256,
        threshold=threshold,
        names=names,
        classes=classes,
        georef=georef,
        maps=_map_folders(folder, summary),
    )


def _map_folders(folder: Path, comparison: Mapping[str, Any] | None) -> dict[str, Path]:
    if comparison is None:
        return {folder.resolve().name: folder}
    ids = [comparison[date]["scene_id"] for date in _DATES]
    # Maps of two dates may have the same id, when they lie in different folders.
    names = ids if ids[0] != ids[1] else [f"{ids[0]} ({date})" for date in _DATES]
    # A comparison that names no folder yields its own, which holds no map.
    folders = [folder.resolve() / str(comparison[date].get("folder", "")) for date in _DATES]
    return dict(zip(names, folders, strict=True))
