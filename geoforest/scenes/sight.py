"""What a process sees of a scene's files, so that another machine's view can be compared with it.

Workers of a cluster open the same paths with their own GDAL, mounts and settings. One that sees
another nodata value, or no mask, would predict other pixels under the same fingerprint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rasterio.errors import RasterioIOError

from geoforest.errors import SceneError
from geoforest.io.raster import open_raster
from geoforest.io.remote import is_remote, reason, shown
from geoforest.scenes.stamps import stamp

if TYPE_CHECKING:
    from geoforest.scenes.scene import Scene

Sight = dict[str, dict[str, Any]]
"""Facts of each file by its path, which may hold a signature."""


def look_at(scene: Scene) -> Sight:
    """Open the scene's rasters in this process and return what decides pixels, without pixels.

    Raises
    ------
    SceneError
        When a raster is missing or cannot be opened.
    """
    rasters = [band.path for band in scene.bands]
    if scene.scene_classification is not None:
        rasters.append(scene.scene_classification)
    found: Sight = {path: _facts(path) for path in dict.fromkeys(rasters)}
    for path, *_ in scene.files:
        if not is_remote(path):
            found.setdefault(path, {})["bytes"] = _size(path)
    return found


def first_difference(here: Sight, there: Sight) -> str | None:
    """Name the first fact of which two processes have another view; None when they agree.

    Parameters
    ----------
    here, there
        From :func:`look_at`, of the same scene, in the process that asks and in the one that began.

    Examples
    --------
    >>> first_difference({"a.tif": {"nodata": [None]}}, {"a.tif": {"nodata": [0.0]}})
    'a.tif: nodata is [None] here, [0.0] there'
    """
    for path, facts in there.items():
        for name, value in facts.items():
            own = here.get(path, {}).get(name)
            if own != value:
                return f"{shown(path)}: {name} is {_text(own)} here, {_text(value)} there"
    return None


def _size(path: str) -> int | None:
    try:
        return stamp(path)[1]
    except OSError:
        return None


def _facts(path: str) -> dict[str, Any]:
    try:
        with open_raster(path) as source:
            return {
                "format": source.driver,
                "shape": source.shape,
                "transform": tuple(source.transform)[:6],
                "CRS": source.crs,
                "type": source.dtypes,
                # NaN would not equal itself.
                "nodata": [None if value is None else repr(value) for value in source.nodatavals],
                "mask": [sorted(flag.name for flag in flags) for flags in source.mask_flag_enums],
                "band names": source.descriptions,
                "scale": source.scales,
                "offset": source.offsets,
                "colours": [colour.name for colour in source.colorinterp],
            }
    except RasterioIOError as error:
        raise SceneError(f"{shown(path)}: cannot be opened ({reason(error, path)})") from error


def _text(value: Any) -> str:
    return str(value)[:80]
