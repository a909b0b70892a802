"""The cloud mask of a scene: who tells clouds, and the buffer around them, shard by shard."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from geoforest.arrays.area import PixelTable
from geoforest.arrays.clouds import CLEAR, CLOUD, buffer_px, within
from geoforest.arrays.grid import Grid, Window
from geoforest.errors import SceneError
from geoforest.scenes.clouds.scl import open_classification
from geoforest.scenes.stamps import stamp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoforest.scenes.scene import Scene
    from geoforest.types import Valid

CloudMaskKind = Literal["auto", "scl", "none", "ukis"]


class CloudSource(Protocol):
    """Tells clouds. It travels to workers, and a pixel's answer does not depend on the window."""

    @property
    def identity(self) -> dict[str, Any]:
        """What decides an answer, besides the files of the scene: plain data."""
        ...

    @property
    def memory_mb(self) -> float:
        """Resident memory that a worker needs for it, besides arrays of a shard's size."""
        ...

    def look(self, window: Window) -> NDArray[np.uint8]:
        """Codes of :mod:`geoforest.arrays.clouds` for a window of the scene."""
        ...


@dataclass(frozen=True)
class CloudMask:
    """Where a scene is cloudy, or too near to a cloud.

    Attributes
    ----------
    source
        Who tells clouds.
    buffer_m
        Distance from a cloud within which nothing counts as seen, metres on the ground.
    pixel_m
        Height and width of a pixel at the centre of the scene, metres on the ground.
    """

    source: CloudSource
    buffer_m: float
    pixel_m: tuple[float, float]

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides the mask, besides the files of the scene."""
        return {**self.source.identity, "buffer_m": self.buffer_m}

    def masked(self, grid: Grid, extent: Window) -> Valid:
        """Pixels of ``extent`` that are to be masked: the same in whatever extent they lie."""
        down, across = buffer_px(self.buffer_m, self.pixel_m)
        around = _grown(extent, down, across, grid)
        codes = self.source.look(around)
        masked = np.empty(extent.shape, np.bool_)
        # Distances take forty bytes a pixel, so not of a whole shard at once.
        for core in grid.cores(extent):
            ring = _grown(core, down, across, grid)
            near = within(codes[_place(ring, around)] == CLOUD, self.buffer_m, self.pixel_m)
            unclear = codes[_place(core, around)] != CLEAR
            masked[_place(core, extent)] = near[_place(core, ring)] | unclear
        return masked


def cloud_mask(
    scene: Scene, kind: CloudMaskKind = "auto", *, buffer_m: float = 100.0, snow: bool = False
) -> tuple[Scene, CloudMask | None]:
    """Find what shows the clouds of a scene.

    Parameters
    ----------
    scene
        See :func:`geoforest.scenes.open.open_scene`.
    kind
        ``scl``, the scene's own classification; ``ukis``, a network; ``none``; or ``auto``, the
        classification where the scene has one.
    buffer_m
        Distance from a cloud within which nothing counts as seen, metres on the ground.
    snow
        Whether snow in the classification counts as cloud.

    Returns
    -------
    scene : Scene
        With the files of the mask among its own, or with a note that there is none.
    mask : CloudMask or None

    Raises
    ------
    InputError
        When clouds cannot be told as asked.
    """
    path = scene.scene_classification
    if kind == "none":
        return scene, None
    if kind != "ukis" and path is None:
        if kind == "scl":
            raise SceneError(
                f"{scene.scene_id}: has no scene classification (SCL), which --cloud-mask scl "
                "wants; a file SCL.tif beside its bands would do, or --cloud-mask ukis"
            )
        note = (
            f"{scene.scene_id}: has no scene classification (SCL), so clouds are not masked; "
            "--cloud-mask ukis finds them by a network"
        )
        return replace(scene, notes=(*scene.notes, note)), None
    source: CloudSource
    if kind == "ukis":
        from geoforest.scenes.clouds.ukis import open_csmask

        source = open_csmask(scene)
    else:
        assert path is not None
        source, files = open_classification(path, scene, snow=snow)
        scene = replace(scene, files=tuple(sorted({*scene.files, *map(stamp, files)})))
        # Of the scene with these stamps: an open file is known by them.
        source = replace(source, scene=scene)
    table = PixelTable.build(scene.georef)
    return scene, CloudMask(source, buffer_m, table.pixel_size_m())


def _grown(window: Window, down: int, across: int, grid: Grid) -> Window:
    """Widen a window, up to the edges of the scene."""
    top, left = max(0, window.row_off - down), max(0, window.col_off - across)
    bottom = min(grid.shape[0], window.row_off + window.height + down)
    right = min(grid.shape[1], window.col_off + window.width + across)
    return Window(top, left, bottom - top, right - left)


def _place(inner: Window, outer: Window) -> tuple[slice, slice]:
    row, col = inner.row_off - outer.row_off, inner.col_off - outer.col_off
    return slice(row, row + inner.height), slice(col, col + inner.width)
