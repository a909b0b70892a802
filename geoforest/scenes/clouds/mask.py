"""The cloud mask of a scene: a source of cloud codes and a buffer, computed shard by shard."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import numpy as np

from geoforest.arrays.area import PixelTable
from geoforest.arrays.clouds import CLEAR, CLOUD, buffer_px, within
from geoforest.arrays.grid import Window
from geoforest.errors import SceneError
from geoforest.scenes.clouds.scl import open_classification
from geoforest.scenes.stamps import stamp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoforest.scenes.scene import Scene
    from geoforest.types import Shape, Valid

_PART_PX: Final = 512

CloudMaskKind = Literal["auto", "scl", "none", "ukis"]


class CloudSource(Protocol):
    """A source of cloud codes.

    It must be picklable, and a pixel's code must not depend on the window it is read in.
    """

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that the codes depend on, besides the scene's files, as plain JSON."""
        ...

    @property
    def memory_mb(self) -> float:
        """Resident memory that a worker needs for it, MB, without arrays of a shard's size."""
        ...

    def read_codes(self, window: Window) -> NDArray[np.uint8]:
        """Read the codes of :mod:`geoforest.arrays.clouds`, ``(row, col)``, in a scene's window."""
        ...


@dataclass(frozen=True)
class CloudMask:
    """The pixels of a scene that are cloudy or within a buffer around clouds.

    Attributes
    ----------
    source
        Source of the cloud codes.
    buffer_m
        Width of the buffer in which pixels count as unobserved, metres on the ground.
    pixel_m
        Height and width of a pixel at the centre of the scene, metres on the ground.
    """

    source: CloudSource
    buffer_m: float
    pixel_m: tuple[float, float]

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that the mask depends on, besides the scene's files, as plain JSON."""
        return {**self.source.identity, "buffer_m": self.buffer_m}

    def masked(self, window: Window, shape: Shape) -> Valid:
        """Return which pixels of a window are masked, bool ``(row, col)``.

        A pixel's value does not depend on the window it is asked for in.

        Parameters
        ----------
        window
            A window inside the scene.
        shape
            ``(rows, cols)`` of the scene.
        """
        down, across = buffer_px(self.buffer_m, self.pixel_m)
        around = window.widened(down, across, shape)
        codes = self.source.read_codes(around)
        masked = np.empty(window.shape, np.bool_)
        # Distances need forty bytes per pixel, too much for a whole shard at once.
        for row in range(0, window.height, _PART_PX):
            for col in range(0, window.width, _PART_PX):
                part = Window(
                    window.row_off + row,
                    window.col_off + col,
                    min(_PART_PX, window.height - row),
                    min(_PART_PX, window.width - col),
                )
                ring = part.widened(down, across, shape)
                near = within(codes[ring.slices_in(around)] == CLOUD, self.buffer_m, self.pixel_m)
                unclear = codes[part.slices_in(around)] != CLEAR
                masked[part.slices_in(window)] = near[part.slices_in(ring)] | unclear
        return masked


def cloud_mask(
    scene: Scene, kind: CloudMaskKind = "auto", *, buffer_m: float = 100.0, snow: bool = False
) -> tuple[Scene, CloudMask | None]:
    """Build the cloud mask of a scene.

    Parameters
    ----------
    scene
        The scene, as from :func:`geoforest.scenes.open.open_scene`.
    kind
        ``scl``, the scene's own classification; ``ukis``, a network; ``none``; or ``auto``, the
        classification when the scene has one.
    buffer_m
        Width of the buffer in which pixels count as unobserved, metres on the ground.
    snow
        Whether snow in the classification counts as cloud.

    Returns
    -------
    scene : Scene
        The scene with the mask's files added, or with a note that clouds are not masked.
    mask : CloudMask or None
        None when clouds are not masked.

    Raises
    ------
    InputError
        When the scene or this installation lacks what ``kind`` needs.
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
        # Open files are identified by the scene's stamps, so the source needs the new ones.
        source = replace(source, scene=scene)
    table = PixelTable.build(scene.georef)
    return scene, CloudMask(source, buffer_m, table.pixel_size_m())
