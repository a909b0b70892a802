"""Plan the tiles of a mosaic: read maps, check that they fit together, lay them on grids."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import rasterio
from rasterio.errors import RasterioIOError

from geoforest.arrays.georef import TOLERANCE_PX, GeoRef
from geoforest.arrays.grid import Window
from geoforest.arrays.zones import Zone, ZoneGrid, common
from geoforest.errors import InputError
from geoforest.io.names import JOB_NAME
from geoforest.io.raster import open_raster
from geoforest.maps.finished import FinishedMap, read_finished

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from geoforest.maps.mosaic.rule import MosaicRule
    from geoforest.types import Shape

FORMAT_VERSION = 1
TileOutline: TypeAlias = "Callable[[ZoneGrid, Window], bytes | None]"


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


@dataclass(frozen=True)
class TileJob:
    """One tile to make. Small enough to be sent to workers.

    Attributes
    ----------
    grid
        Grid of the zone.
    across, up
        Position, in units of 100 km from the origin of the zone.
    window
        Pixels of the tile.
    maps
        Maps that touch it, in order of precedence.
    rule
        Rule for pixels that several maps observed.
    threshold
        Probability at or above which a pixel is forest, 0 to 1.
    model
        Ids of the models.
    aoi
        Area of interest in WKB and the CRS of the zone, or None.
    """

    grid: ZoneGrid
    across: int
    up: int
    window: Window
    maps: tuple[PlacedMap, ...]
    rule: MosaicRule
    threshold: float
    model: str
    aoi: bytes | None = None

    @property
    def georef(self) -> GeoRef:
        """Georeference of its pixels."""
        return zone_georef(self.grid, self.window)

    @property
    def name(self) -> str:
        """Name such as ``20S_E05_N90``: zone, and lower left corner in units of 100 km."""
        return f"{self.grid.zone.name}_E{self.across:02d}_N{self.up:02d}"

    @cached_property
    def digest(self) -> str:
        """Hash of everything that decides a pixel of the tile."""
        facts = {
            "format": FORMAT_VERSION,
            "size": self.grid.size,
            "tile": self.name,
            "maps": [
                [one.scene_id, one.finished.sha256, one.window.row_off, one.window.col_off]
                for one in self.maps
            ],
            "rule": self.rule,
            "threshold": self.threshold,
            "model": self.model,
            "aoi": hashlib.sha256(self.aoi).hexdigest() if self.aoi else None,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def map_folders(path: str | Path) -> list[Path]:
    """Return the maps in a folder, or the folder itself when it is a map."""
    path = Path(path)
    if (path / JOB_NAME).is_file() or not path.is_dir():
        return [path]
    return sorted(job.parent for job in path.glob(f"*/{JOB_NAME}")) or [path]


def read_map(folder: str | Path) -> PlacedMap:
    """Read a finished map and find its place on the grid of its zone.

    Raises
    ------
    InputError
        When the folder holds no finished map with a probability, or the map is not on a UTM grid.
    """
    finished = read_finished(folder)
    try:
        with open_raster(finished.probability) as source:
            return PlacedMap(finished, *_place_on_grid(source, finished.probability))
    except RasterioIOError as error:
        raise InputError(f"{finished.probability}: cannot be read ({error})") from error


def _place_on_grid(
    source: rasterio.DatasetReader, path: Path
) -> tuple[ZoneGrid, Window, tuple[float, float]]:
    zone = None if source.crs is None else Zone.of(source.crs)
    if zone is None:
        found = "no CRS" if source.crs is None else source.crs.to_string()[:40]
        raise InputError(f"{path}: lies in {found}; a UTM zone of WGS 84 was wanted")
    georef = GeoRef.of(source, path)
    t, side = georef.transform, georef.square_side
    if side is None:
        raise InputError(f"{path}: pixels of {t.a!r} x {-t.e!r} m; square ones were wanted")
    col, row = t.c / side, -t.f / side
    # Round half up, which is the same on every machine.
    at = int(col + 0.5 + TOLERANCE_PX), -int(-row + 0.5 + TOLERANCE_PX)
    shift = (at[0] - col) * side, (at[1] - row) * side
    if max(map(abs, shift)) < TOLERANCE_PX * side:
        shift = 0.0, 0.0
    return ZoneGrid(zone, side), Window(at[1], at[0], *source.shape), shift


def zone_georef(grid: ZoneGrid, window: Window) -> GeoRef:
    """Return the georeference of a window of a zone's pixels."""
    return GeoRef(window.shape, grid.transform(window), rasterio.CRS.from_epsg(grid.zone.epsg))


def check_together(maps: Sequence[PlacedMap], *, threshold: float | None, mixed: bool) -> list[str]:
    """Refuse maps that cannot be combined.

    Parameters
    ----------
    maps
        Maps to combine.
    threshold
        Threshold to apply; by default all maps must have the same.
    mixed
        Whether maps of different models may be combined.

    Returns
    -------
    list of str
        Notes for the user.

    Raises
    ------
    InputError
        When there is no map, one is given twice, or pixel sizes, models or thresholds differ.
    """
    if not maps:
        raise InputError("no maps: one or more output folders of geoforest map were wanted")
    names = [one.scene_id for one in maps]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"scene {twice[0]!r} is there twice")
    first = maps[0]
    for one in maps:
        if one.grid.size != first.grid.size:
            raise InputError(
                f"{one.path}: pixels of {one.grid.size!r} m, those of {first.path} have "
                f"{first.grid.size!r} m; one size was wanted"
            )
        if one.finished.model != first.finished.model and not mixed:
            raise InputError(
                f"{one.path}: made by model {one.finished.model}, {first.path} by "
                f"{first.finished.model}; one model was wanted, or --mixed-models"
            )
        if one.finished.threshold != first.finished.threshold and threshold is None:
            raise InputError(
                f"{one.path}: threshold {one.finished.threshold:g}, that of {first.path} is "
                f"{first.finished.threshold:g}; give the one to apply with --threshold"
            )
    return [
        f"{one.scene_id}: its grid was moved by {one.shift_m[0]:+.1f} m to the right and "
        f"{one.shift_m[1]:+.1f} m down, to the common one of {one.grid.size:g} m"
        for one in maps
        if any(one.shift_m)
    ]


def plan_tiles(
    maps: Iterable[PlacedMap],
    *,
    rule: MosaicRule,
    threshold: float,
    model: str,
    aoi: TileOutline | None = None,
) -> list[TileJob]:
    """Return the tiles that maps touch, by zone and from north-west to south-east.

    Parameters
    ----------
    maps
        Maps to combine.
    rule, threshold, model
        See :class:`TileJob`.
    aoi
        Function from a zone's grid and a tile's window to the area of interest there, as WKB in
        the zone's CRS, or None; tiles without any are left out.
    """
    by_tile: dict[tuple[ZoneGrid, int, int], list[PlacedMap]] = {}
    for one in maps:
        for across, up in one.grid.tiles(one.window):
            by_tile.setdefault((one.grid, across, up), []).append(one)
    jobs = []
    for (grid, across, up), touching in by_tile.items():
        window = grid.tile(across, up)
        if not grid.owns_any(window):
            continue
        wkb = None
        if aoi is not None:
            wkb = aoi(grid, window)
            if wkb is None:
                continue
        jobs.append(
            TileJob(grid, across, up, window, in_order(touching, rule), rule, threshold, model, wkb)
        )
    return sorted(jobs, key=lambda job: (job.grid.zone, -job.up, job.across))


def in_order(maps: Iterable[PlacedMap], rule: MosaicRule) -> tuple[PlacedMap, ...]:
    """Sort maps by precedence under a rule; ties by scene id."""
    if rule == "latest":
        by_name = sorted(maps, key=lambda one: one.scene_id)
        return tuple(sorted(by_name, key=lambda one: one.finished.acquired, reverse=True))
    if rule == "clearest":
        return tuple(sorted(maps, key=lambda one: (-one.finished.observed_percent, one.scene_id)))
    return tuple(sorted(maps, key=lambda one: one.scene_id))


def piece_of(one: PlacedMap, window: Window) -> tuple[Window, Shape] | None:
    """Return the pixels of a map inside a window, and their place in the window; None outside."""
    both = common(one.window, window)
    if both is None:
        return None
    inside = Window(
        both.row_off - one.window.row_off,
        both.col_off - one.window.col_off,
        both.height,
        both.width,
    )
    return inside, (both.row_off - window.row_off, both.col_off - window.col_off)
