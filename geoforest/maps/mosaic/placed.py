"""A finished map in its place on the grid of a zone."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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


def tile_name(grid: ZoneGrid, across: int, up: int) -> str:
    """Return a name such as ``20S_E05_N90``: zone, and lower left corner in units of 100 km."""
    return f"{grid.zone.name}_E{across:02d}_N{up:02d}"


def digest_of(grid: ZoneGrid, name: str, aoi: bytes | None, facts: dict[str, Any]) -> str:
    """Return the hash of everything that decides a tile: its place, area of interest, and facts."""
    facts = {
        **facts,
        "size": grid.size,
        "tile": name,
        "aoi": hashlib.sha256(aoi).hexdigest() if aoi else None,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
