"""The codes of a finished map, or of a comparison of two, as the strata of a sample."""

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
# What the map is uncertain of is a stratum, but nothing that a person could see on the ground.
CHANGE_CLASSES: Final = {
    code: name for code, name in CHANGE_NAMES.items() if code != change.UNCERTAIN
}

_DATES: Final = ("earlier", "later")


@dataclass(frozen=True)
class StratifiedMap:
    """A raster each of whose codes is a stratum.

    Attributes
    ----------
    raster
        Whose pixels give the codes.
    scene_id
        Of the map; of both for a comparison.
    sha256
        Of the raster.
    threshold
        At or above which a probability is forest; None where the raster has codes itself.
    names
        Of the strata, by code.
    classes
        Those of them that the reference may be.
    georef
        The grid.
    maps
        Output folders of ``geoforest map`` that it was made of, by scene id, the earliest first.
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
        """Codes from top to bottom, uint8, 255 where nothing was observed.

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
    """Describe what ``geoforest map`` or ``geoforest change`` left in a folder.

    Raises
    ------
    InputError
        When it is neither.
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
        maps=_maps(folder, summary),
    )


def _maps(folder: Path, comparison: Mapping[str, Any] | None) -> dict[str, Path]:
    if comparison is None:
        return {folder.resolve().name: folder}
    ids = [comparison[date]["scene_id"] for date in _DATES]
    # Two maps may have one id, such as those of two dates in folders of their own.
    names = ids if ids[0] != ids[1] else [f"{ids[0]} ({date})" for date in _DATES]
    # Where the comparison does not say, no map is found in its own folder.
    folders = [folder.resolve() / str(comparison[date].get("folder", "")) for date in _DATES]
    return dict(zip(names, folders, strict=True))
