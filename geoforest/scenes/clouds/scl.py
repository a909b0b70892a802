"""The scene classification layer (SCL) of a Sentinel-2 product, on the grid of its scene."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rasterio.errors import RasterioIOError

from geoforest.arrays.clouds import CLEAR, CLOUD, UNKNOWN
from geoforest.arrays.georef import check_grid
from geoforest.arrays.grid import Window
from geoforest.errors import SceneError
from geoforest.io.raster import open_raster
from geoforest.io.remote import reason, shown
from geoforest.scenes.read import read_band
from geoforest.scenes.stamps import files_behind

if TYPE_CHECKING:
    from collections.abc import Sequence

    import rasterio
    from affine import Affine
    from numpy.typing import NDArray

    from geoforest.scenes.scene import Scene

_NAME: Final = re.compile(r"(?:^|.*_)SCL(?:_\d+m)?", re.IGNORECASE)
_NO_DATA: Final = 0
# Saturated or defective, cloud shadow, cloud of medium and of high probability, thin cirrus.
_CLOUDS: Final = (1, 3, 8, 9, 10)
_SNOW: Final = 11
_WITHOUT: Final = "; --cloud-mask none maps without"


def is_scene_classification(stem: str) -> bool:
    """Whether a file with this stem is named as an SCL is.

    Examples
    --------
    >>> [is_scene_classification(name) for name in ("SCL", "T20LMR_x_SCL_20m", "MUSCLE")]
    [True, True, False]
    """
    return _NAME.fullmatch(stem) is not None


@dataclass(frozen=True)
class SceneClassification:
    """Where the scene classification says that there are clouds.

    Attributes
    ----------
    path
        Anything GDAL opens.
    scene
        On whose grid it is asked.
    transform
        Of the layer, in the scene's CRS.
    snow
        Whether snow counts as cloud.
    """

    path: str
    scene: Scene
    transform: Affine
    snow: bool

    @property
    def identity(self) -> dict[str, Any]:
        """What decides an answer, besides the content of the file."""
        return {"by": "scl", "file": shown(self.path), "snow": self.snow}

    @property
    def memory_mb(self) -> float:
        """Its blocks are kept with those of the bands."""
        return 0.0

    def look(self, window: Window) -> NDArray[np.uint8]:
        """Codes of :mod:`geoforest.arrays.clouds` for a window of the scene.

        Each pixel gets the class that lies at its centre.

        Raises
        ------
        ReadError
            When a block cannot be decoded.
        """
        rows, cols = _indices(self.scene, self.transform)
        down, across = (
            indices[part] for indices, part in zip((rows, cols), window.slices, strict=True)
        )
        place = Window(
            int(down[0]),
            int(across[0]),
            int(down[-1] - down[0]) + 1,
            int(across[-1] - across[0]) + 1,
        )
        classes = read_band(self.path, self.scene, place)
        codes = np.full(256, CLEAR, np.uint8)
        codes[_NO_DATA] = UNKNOWN
        codes[[*_CLOUDS, *([_SNOW] if self.snow else [])]] = CLOUD
        return codes[classes][down - down[0]][:, across - across[0]]


def open_classification(
    path: str, scene: Scene, *, snow: bool
) -> tuple[SceneClassification, list[str]]:
    """Check that an SCL says something of every pixel of a scene.

    Parameters
    ----------
    path
        Anything GDAL opens.
    scene
        The scene; the layer may have any resolution in the same CRS.
    snow
        Whether snow counts as cloud.

    Returns
    -------
    classification : SceneClassification
    files : list of str
        All files that the layer is read from.

    Raises
    ------
    SceneError
        When it cannot be read, is no such layer, or lies on another grid.
    """
    try:
        with open_raster(path) as source:
            _check_kind(source, path)
            if source.crs != scene.crs:
                found = source.crs.to_string()[:40] if source.crs else "none"
                raise SceneError(
                    f"{shown(path)}: its CRS is {found}, that of scene {scene.scene_id} "
                    f"{scene.crs.to_string()[:40]}; the same was wanted{_WITHOUT}"
                )
            _check_cover(_indices(scene, source.transform), source, path, scene)
            transform, files = source.transform, files_behind({path: source})
    except RasterioIOError as error:
        raise SceneError(
            f"{shown(path)}: scene classification that GDAL cannot open "
            f"({reason(error, path)}){_WITHOUT}"
        ) from error
    return SceneClassification(path, scene, transform, snow), files


def _check_kind(source: rasterio.DatasetReader, path: str) -> None:
    if source.count != 1 or source.dtypes[0] != "uint8":
        raise SceneError(
            f"{shown(path)}: {source.count} band(s) of {source.dtypes[0]}; a scene classification "
            "of one band of uint8 was wanted"
        )
    check_grid(source.shape, source.transform, shown(path), error=SceneError)


def _check_cover(
    indices: Sequence[NDArray[np.intp]], source: rasterio.DatasetReader, path: str, scene: Scene
) -> None:
    for along, side in zip(indices, source.shape, strict=True):
        if along[0] < 0 or along[-1] >= side:
            raise SceneError(
                f"{shown(path)}: its bounds {tuple(source.bounds)} do not cover those of scene "
                f"{scene.scene_id}, {scene.bounds}{_WITHOUT}"
            )


def _indices(scene: Scene, transform: Affine) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column of the layer that lie at the centres of the scene's rows and columns."""
    own, (n_rows, n_cols) = scene.transform, scene.shape
    y = own.f + (np.arange(n_rows) + 0.5) * own.e
    x = own.c + (np.arange(n_cols) + 0.5) * own.a
    rows = np.floor((y - transform.f) / transform.e).astype(np.intp)
    return rows, np.floor((x - transform.c) / transform.a).astype(np.intp)
