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

_NAME: Final = re.compile(
    r"(?:^|.*_)SCL(?:_\d+m)?|quality_scene_classification|scene_classification", re.IGNORECASE
)
_NO_DATA: Final = 0
# Saturated or defective, cloud shadow, cloud of medium and of high probability, thin cirrus.
_CLOUDS: Final = (1, 3, 8, 9, 10)
_SNOW: Final = 11
_WITHOUT: Final = "; --cloud-mask none maps without"


def is_scene_classification(stem: str) -> bool:
    """Return whether a file with this stem is named like an SCL.

    Examples
    --------
    >>> [is_scene_classification(name) for name in ("SCL", "T20LMR_x_SCL_20m", "MUSCLE")]
    [True, True, False]
    >>> is_scene_classification("quality_scene_classification")  # of SNAP
    True
    """
    return _NAME.fullmatch(stem) is not None


@dataclass(frozen=True)
class SceneClassification:
    """Cloud codes from a scene classification layer.

    Attributes
    ----------
    path
        The layer: anything GDAL opens.
    scene
        The scene whose grid the codes are on.
    transform
        Affine transform of the layer, in the scene's CRS.
    snow
        Whether snow counts as cloud.
    """

    path: str
    scene: Scene
    transform: Affine
    snow: bool

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that the codes depend on, besides the file's content, as plain JSON."""
        return {"by": "scl", "file": shown(self.path), "snow": self.snow}

    @property
    def memory_mb(self) -> float:
        """Zero, because its blocks share the cache of the bands."""
        return 0.0

    def read_codes(self, window: Window) -> NDArray[np.uint8]:
        """Read the codes of :mod:`geoforest.arrays.clouds`, ``(row, col)``, in a scene's window.

        Each pixel gets the class at its centre.

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
        code_of = np.full(256, CLEAR, np.uint8)
        code_of[_NO_DATA] = UNKNOWN
        code_of[[*_CLOUDS, *([_SNOW] if self.snow else [])]] = CLOUD
        codes: NDArray[np.uint8] = code_of[classes][down - down[0]][:, across - across[0]]
        return codes


def open_classification(
    path: str, scene: Scene, *, snow: bool
) -> tuple[SceneClassification, list[str]]:
    """Open an SCL, and check that it covers every pixel of a scene.

    Parameters
    ----------
    path
        The layer: anything GDAL opens.
    scene
        The scene; the layer may have any resolution in the same CRS.
    snow
        Whether snow counts as cloud.

    Returns
    -------
    classification : SceneClassification
        The cloud source.
    files : list of str
        All files that the layer is read from.

    Raises
    ------
    SceneError
        When it cannot be read, is not such a layer, has another CRS, or does not cover the scene.
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
    """Compute the layer's row and column at the centre of each of the scene's rows and columns."""
    own, (n_rows, n_cols) = scene.transform, scene.shape
    y = own.f + (np.arange(n_rows) + 0.5) * own.e
    x = own.c + (np.arange(n_cols) + 0.5) * own.a
    rows = np.floor((y - transform.f) / transform.e).astype(np.intp)
    return rows, np.floor((x - transform.c) / transform.a).astype(np.intp)
