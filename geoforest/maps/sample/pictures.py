"""Write the pictures for a labeller: each scene around the points at full resolution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geoforest.errors import GeoforestError, WriteError
from geoforest.io.names import QUICKLOOK_NAME
from geoforest.maps.finished import read_finished, recorded_scene
from geoforest.maps.sample.around_points import write_picture

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import geopandas

    from geoforest.maps.sample.strata import StratifiedMap

# More than the 25 pixels that a page shows on each side of a point; screens are wider than high.
_AROUND_PX = 30, 45


def picture_paths(sample: Path, source: StratifiedMap) -> dict[str, Path]:
    """Return the picture path of each scene by its id: ``sample_scene.tif``, or one per date."""
    names = ["scene"] if len(source.maps) == 1 else ["earlier", "later"]
    paths = (sample.with_name(f"{sample.stem}_{name}.tif") for name in names)
    return dict(zip(source.maps, paths, strict=True))


def write_pictures(
    paths: Mapping[str, Path], points: geopandas.GeoDataFrame, source: StratifiedMap
) -> tuple[dict[str, list[Path]], list[str]]:
    """Write the scenes around the points of a sample, at full resolution.

    Parameters
    ----------
    paths
        Paths to write by scene id.
    points
        Points with columns ``row`` and ``col``.
    source
        Map that they were drawn from.

    Returns
    -------
    pictures
        Rasters in true colour by scene id, the latest scene first; in each list the first is drawn
        on top. Scenes without a raster are left out.
    notes
        Sentences the user should read.

    Raises
    ------
    WriteError
        When a picture cannot be written.
    """
    pictures, notes = {}, []
    for name, folder in source.maps.items():
        note = _write_one(paths[name], folder, points, source)
        found = [paths[name]] if note is None else []
        if (folder / QUICKLOOK_NAME).is_file():
            found.append(folder / QUICKLOOK_NAME)
        if note is not None:
            notes.append(note)
        if found:
            pictures[name] = found
    return dict(reversed(pictures.items())), notes


def _write_one(
    path: Path, folder: Path, points: geopandas.GeoDataFrame, source: StratifiedMap
) -> str | None:
    """Write one picture; return None, or the sentence that says why there is none."""
    rows, cols = (points[name].to_numpy(np.int64) for name in ("row", "col"))
    try:
        scene = recorded_scene(read_finished(folder))
        if scene is None:
            return (
                f"{folder}: the scene that it was made of is not on this disk as it was, so at "
                f"most {QUICKLOOK_NAME} is shown, which is coarse"
            )
        if scene.shape != source.georef.shape:
            return f"{folder}: its grid is not that of {source.raster}; no picture of it is made"
        if not write_picture(path, scene, rows, cols, _AROUND_PX):
            return f"{folder}: its scene has no red, green and blue to be shown"
    except WriteError:
        raise
    except GeoforestError as error:
        return f"{error}; no picture of it is made"
    return None
