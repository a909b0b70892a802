"""A finished map in its place on the grid of a zone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from geoforest.arrays.grid import Window
    from geoforest.arrays.zones import ZoneGrid
    from geoforest.maps.finished import FinishedMap


@dataclass(frozen=True)
class PlacedMap:
    """Finished map on the grid of its zone.

    Attributes
    ----------
    finished
        The map.
    grid
        Grid of its zone.
    window
        Its pixels in the grid.
    shift_m
        Metres by which it was moved, right and down, to fit the grid; usually (0, 0).
    """

    finished: FinishedMap
    grid: ZoneGrid
    window: Window
    shift_m: tuple[float, float]

    @property
    def scene_id(self) -> str:
        """Id of the scene."""
        return self.finished.scene_id

    @property
    def path(self) -> Path:
        """Path of its stored probability."""
        return self.finished.probability

    @property
    def identity(self) -> list[str | int]:
        """Scene, checksum and place: everything of it that decides a pixel of a mosaic."""
        place = self.window.row_off, self.window.col_off
        return [self.scene_id, self.finished.sha256, self.grid.zone.name, *place]
