"""Plan the tiles of a mosaic: read maps, check that they fit together, lay them on grids."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import rasterio
import shapely
from rasterio.errors import RasterioIOError

from geoforest.arrays.georef import TOLERANCE_PX, GeoRef
from geoforest.arrays.grid import Window
from geoforest.arrays.zones import FALSE_NORTHING_M, Zone, ZoneGrid, common
from geoforest.errors import InputError
from geoforest.io.names import JOB_NAME
from geoforest.io.raster import open_raster
from geoforest.maps.finished import read_finished
from geoforest.maps.mosaic.across import outline_in, zones_reached
from geoforest.maps.mosaic.placed import PlacedMap, digest_of, tile_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from geoforest.maps.mosaic.rule import MosaicRule
    from geoforest.types import Shape

FORMAT_VERSION = 2
TileOutline: TypeAlias = "Callable[[ZoneGrid, Window], bytes | None]"
_Tile: TypeAlias = tuple[ZoneGrid, int, int]
# Catalogues give the time of a tile or that of its datatake; orbits are 100 minutes apart.
_ONE_PASS = timedelta(minutes=15)


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
        Maps of its zone that touch it, in order of precedence: those of the other hemisphere too,
        whose pixels lie 10,000 km north or south.
    beyond
        Maps of other zones that reach ground of the tile, in order of precedence. They fill what
        no map of the zone observed.
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
    beyond: tuple[PlacedMap, ...] = ()

    @property
    def georef(self) -> GeoRef:
        """Georeference of its pixels."""
        return zone_georef(self.grid, self.window)

    @property
    def name(self) -> str:
        """See :func:`geoforest.maps.mosaic.placed.tile_name`."""
        return tile_name(self.grid, self.across, self.up)

    @cached_property
    def digest(self) -> str:
        """Hash of everything that decides a pixel of the tile."""
        facts = {
            "format": FORMAT_VERSION,
            "maps": [one.identity for one in self.maps],
            "beyond": [one.identity for one in self.beyond],
            "rule": self.rule,
            "threshold": self.threshold,
            "model": self.model,
        }
        return digest_of(self.grid, self.name, self.aoi, facts)


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
    top = t.f
    # North of the equator northings are above 0, and south of it below 10,000 km. Rasters of
    # Landsat have them below 0 there.
    if not zone.south and top <= 0:
        zone, top = zone.across, top + FALSE_NORTHING_M
    elif zone.south and top - source.height * side >= FALSE_NORTHING_M:
        zone, top = zone.across, top - FALSE_NORTHING_M
    col, row = t.c / side, -top / side
    # Round half up, which is the same on every machine.
    at = math.floor(col + 0.5 + TOLERANCE_PX), -math.floor(-row + 0.5 + TOLERANCE_PX)
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


def newest_of_each(maps: Sequence[PlacedMap]) -> tuple[list[PlacedMap], list[str]]:
    """Leave out maps of acquisitions that another map has under a newer processing baseline.

    Returns
    -------
    maps
        Maps to combine.
    notes
        Notes for the user: which were left out, and for which.
    """
    by_tile: dict[tuple[str, str], list[PlacedMap]] = {}
    for one in maps:
        finished = one.finished
        if finished.tile and finished.baseline and finished.acquired:
            by_tile.setdefault((finished.tile, one.scene_id[:3]), []).append(one)
    newer: dict[str, PlacedMap] = {}
    for some in by_tile.values():
        some.sort(key=lambda one: (one.finished.baseline, one.scene_id), reverse=True)
        for place, one in enumerate(some):
            for best in some[:place]:
                apart = abs(_acquired(best) - _acquired(one))
                if apart < _ONE_PASS and best.finished.baseline != one.finished.baseline:
                    newer.setdefault(one.scene_id, best)
    notes = [
        f"{scene_id}: left out, since {best.scene_id} is the same acquisition under the newer "
        f"processing baseline {best.finished.baseline}"
        for scene_id, best in sorted(newer.items())
    ]
    return [one for one in maps if one.scene_id not in newer], notes


def _acquired(one: PlacedMap) -> datetime:
    time = datetime.fromisoformat(one.finished.acquired)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


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
    own: dict[_Tile, list[PlacedMap]] = {}
    beyond: dict[_Tile, list[PlacedMap]] = {}
    for one in maps:
        for tile in own_tiles(one):
            own.setdefault(tile, []).append(one)
        for tile in tiles_across(one):
            # Pixels north and south of the equator are on one grid.
            same = tile[0].zone == one.grid.zone.across
            (own if same else beyond).setdefault(tile, []).append(one)
    jobs = []
    for tile in {**own, **beyond}:
        grid, across, up = tile
        window, wkb = grid.tile(across, up), None
        touching = [some.get(tile, []) for some in (own, beyond)]
        if aoi is not None:
            wkb = aoi(grid, window)
            if wkb is None:
                continue
            area = shapely.from_wkb(wkb)
            touching = [[one for one in some if _meets(one, grid.zone, area)] for some in touching]
        if not any(touching):
            continue
        ordered = [in_order(some, rule) for some in touching]
        jobs.append(
            TileJob(grid, across, up, window, ordered[0], rule, threshold, model, wkb, ordered[1])
        )
    return sorted(jobs, key=lambda job: (job.grid.zone, -job.up, job.across))


def _meets(one: PlacedMap, zone: Zone, area: shapely.Geometry) -> bool:
    """Check whether a map shares ground with an area in the coordinates of any zone."""
    outline = outline_in(one, zone)
    return outline is not None and bool(shapely.intersects(outline, area))


def own_tiles(one: PlacedMap) -> list[_Tile]:
    """Return the tiles of its zone in which a map has ground of the zone."""
    tiles = [(one.grid, across, up) for across, up in one.grid.tiles(one.window)]
    return [
        tile
        for tile in tiles
        if (shared := common(one.grid.tile(*tile[1:]), one.window)) and one.grid.owns_any(shared)
    ]


def tiles_across(one: PlacedMap) -> list[_Tile]:
    """Return the tiles of other zones in which a map has ground of those zones."""
    found = []
    for zone in zones_reached(one):
        grid, outline = ZoneGrid(zone, one.grid.size), outline_in(one, zone)
        if outline is None:
            continue
        for across, up in grid.tiles(pixels_around(outline, grid)):
            inside = shapely.intersection(outline, tile_box(grid, across, up))
            if inside.area > 0:
                _, bottom, _, top = inside.bounds
                ground = zone.territory(bottom, top)
                if shapely.intersection(inside, ground).area > 0:
                    found.append((grid, across, up))
    return found


def tile_box(grid: ZoneGrid, across: int, up: int) -> shapely.Polygon:
    """Return the outline of a tile in the coordinates of its zone."""
    window = grid.tile(across, up)
    at = grid.transform(window)
    return shapely.box(*(at @ (0, window.height)), *(at @ (window.width, 0)))


def pixels_around(outline: shapely.Polygon, grid: ZoneGrid) -> Window:
    """Return the pixels of a grid around an outline in its coordinates."""
    left, bottom, right, top = (side / grid.size for side in outline.bounds)
    row, col = math.floor(-top), math.floor(left)
    return Window(row, col, math.ceil(-bottom) - row, math.ceil(right) - col)


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
