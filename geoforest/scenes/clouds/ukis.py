"""Clouds and their shadows from the network of ukis-csmask, for scenes without a classification.

Wieland, Li and Martinis 2019, Multi-sensor cloud and cloud shadow segmentation with a
convolutional neural network, Remote Sensing of Environment 230. This module runs the network
itself. The package's own class places and blends its tiles relative to the array it is given, so a
pixel's class would depend on its shard.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from geoforest.arrays.area import PixelTable
from geoforest.arrays.clouds import CLEAR, CLOUD
from geoforest.arrays.grid import Grid, Window
from geoforest.errors import InputError
from geoforest.scenes.read import read_window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geoforest.scenes.scene import Scene
    from geoforest.types import Array, Valid

_BANDS: Final = ("B02", "B03", "B04", "B08")
_WINDOW_PX: Final = 256
_HALO_PX: Final = 32
# According to its authors the network is best at about 30 m.
_GSD_M: Final = 30.0


@dataclass(frozen=True)
class CloudShadowNetwork:
    """Cloud codes, shadows included, from the four-band network of ukis-csmask.

    Its input are means over squares of ``factor`` x ``factor`` pixels, counted from the scene's
    first pixel, in windows on a lattice that is fixed for the scene.

    Attributes
    ----------
    scene
        The scene whose bands are the input.
    factor
        Side of a square, px.
    level
        Processing level the network was trained on: ``l1c`` or ``l2a``.
    version
        Version of the network.
    """

    scene: Scene
    factor: int
    level: str
    version: str

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that the codes depend on, besides the scene's files, as plain JSON."""
        return {"by": "ukis", "network": self.version, "factor": self.factor}

    @property
    def memory_mb(self) -> float:
        """Measured memory of ONNX Runtime, weights and the activations of two windows, MB."""
        return 330.0

    def read_codes(self, window: Window) -> NDArray[np.uint8]:
        """Compute the codes of :mod:`geoforest.arrays.clouds`, ``(row, col)``, in a window.

        Raises
        ------
        ReadError
            When pixels of the scene cannot be decoded.
        """
        n_rows, n_cols = (math.ceil(side / self.factor) for side in self.scene.shape)
        grid = Grid((n_rows, n_cols), _WINDOW_PX, _HALO_PX, shard_cores=1)
        codes = np.full(window.shape, CLEAR, np.uint8)
        for shard in grid.shards():
            extent = _scaled(shard.extent, self.factor, self.scene.shape)
            place, part = _overlap(window, extent)
            if place is not None:
                squares = self._predict_squares(grid, shard.extent)
                whole = squares.repeat(self.factor, axis=0).repeat(self.factor, axis=1)
                codes[place] = whole[part]
        return codes

    def _predict_squares(self, grid: Grid, core: Window) -> NDArray[np.uint8]:
        """Compute the codes of the squares in one core."""
        support = grid.support(core)
        dn, valid = read_window(self.scene, _scaled(support.window, self.factor, self.scene.shape))
        seen, reflectance = _means(dn, valid, self.factor)
        if not seen.any():
            return np.full(core.shape, CLEAR, np.uint8)
        order = [[band.name for band in self.scene.bands].index(name) for name in _BANDS]
        scale, offset = (
            np.asarray(factors, np.float64)[order, None, None]
            for factors in (self.scene.scale, self.scene.offset)
        )
        network = _network(self.level)
        values = (reflectance[order] * scale + offset - network.mean) / network.std
        # Unobserved squares are replaced by the training mean, as with the forest model.
        values = np.where(seen, values, 0).astype(np.float32)
        classes = network(support.expand(values))[grid.halo :, grid.halo :]
        cut = slice(core.row_off - support.window.row_off, None)
        across = slice(core.col_off - support.window.col_off, None)
        own = seen[cut, across][: core.height, : core.width]
        cloudy = (classes[: core.height, : core.width] > 0) & own
        return np.where(cloudy, CLOUD, CLEAR).astype(np.uint8)


def open_csmask(scene: Scene) -> CloudShadowNetwork:
    """Load the network, and check that it can be applied to a scene.

    Raises
    ------
    InputError
        When the extra is not installed, or the model's bands lack one that the network needs.
    """
    names = [band.name for band in scene.bands]
    missing = [name for name in _BANDS if name not in names]
    if missing:
        raise InputError(
            f"{scene.scene_id}: --cloud-mask ukis looks at {', '.join(_BANDS)}, and the model's "
            f"bands are {', '.join(names)}, without {missing[0]}"
        )
    level = "l1c" if scene.processing_level == "L1C" else "l2a"
    table = PixelTable.build(scene.georef)
    factor = max(1, round(_GSD_M / math.sqrt(table.pixel_area_m2())))
    return CloudShadowNetwork(scene, factor, level, _network(level).version)


class _Network:
    """The network in ONNX Runtime, with the statistics that normalise its input."""

    def __init__(self, level: str) -> None:
        try:
            import onnxruntime

            model = files("ukis_csmask") / f"model_4b_{level}.onnx"
        except ImportError as error:
            raise InputError('cloud mask ukis: pip install "geoforest[clouds]"') from error
        card = json.loads((files("ukis_csmask") / f"model_4b_{level}.json").read_text())
        mean, std = card["data"]["dataset_statistics"]["img"]
        self.mean, self.std = (np.asarray(row)[:, None, None] for row in (mean, std))
        self.version: str = card["model"]["version"]
        options = onnxruntime.SessionOptions()
        # More threads may sum in another order, so clouds would depend on the number of cores. Two
        # shards are on a worker at once, and prediction uses the other cores.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            model.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name

    def __call__(self, values: Array) -> NDArray[np.intp]:
        """Classify normalised ``(band, row, col)``: ``(row, col)``, 0 clear, 1 cloud, 2 shadow."""
        (scores,) = self._session.run(None, {self._input: values[None]})
        classes: NDArray[np.intp] = scores[0].argmax(axis=0)
        return classes


@cache
def _network(level: str) -> _Network:
    return _Network(level)


def _means(dn: Array, valid: Valid, factor: int) -> tuple[Valid, NDArray[np.float64]]:
    """Compute for each square whether any pixel is valid, and the band means of valid pixels.

    Squares at the right and lower edges may have fewer pixels.
    """
    rows, cols = (range(0, side, factor) for side in valid.shape)
    counts = _sums(valid.astype(np.float64), rows, cols)
    sums = np.stack([_sums(np.where(valid, band, 0).astype(np.float64), rows, cols) for band in dn])
    return counts > 0, sums / np.maximum(counts, 1)


def _sums(values: Array, rows: Sequence[int], cols: Sequence[int]) -> NDArray[np.float64]:
    sums: NDArray[np.float64] = np.add.reduceat(np.add.reduceat(values, rows, axis=0), cols, axis=1)
    return sums


def _scaled(window: Window, factor: int, shape: tuple[int, int]) -> Window:
    """Return the scene's pixels in a window of squares."""
    top, left = window.row_off * factor, window.col_off * factor
    bottom = min((window.row_off + window.height) * factor, shape[0])
    right = min((window.col_off + window.width) * factor, shape[1])
    return Window(top, left, bottom - top, right - left)


def _overlap(
    target: Window, source: Window
) -> tuple[tuple[slice, slice] | None, tuple[slice, slice]]:
    """Return the slices of each window where two windows overlap; None first when they do not."""
    top, left = max(target.row_off, source.row_off), max(target.col_off, source.col_off)
    bottom = min(target.row_off + target.height, source.row_off + source.height)
    right = min(target.col_off + target.width, source.col_off + source.width)
    here, there = (
        (
            slice(top - one.row_off, bottom - one.row_off),
            slice(left - one.col_off, right - one.col_off),
        )
        for one in (target, source)
    )
    return (here if top < bottom and left < right else None), there
