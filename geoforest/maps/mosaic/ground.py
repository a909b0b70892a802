"""Measure the ground that maps observed, on their own grids, to compare a mosaic with it.

Nothing of the mosaic is used here: neither its tiles nor which zone owns which ground. So ground
that a mosaic loses, or counts twice, shows.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import rasterio
import shapely
from rasterio.features import geometry_mask

from geoforest.arrays.area import PixelTable
from geoforest.arrays.grid import Window
from geoforest.arrays.zones import ZoneGrid, common
from geoforest.io.remote import network_options
from geoforest.maps.mosaic.across import degrees_around, outline_in, overlap, read_across
from geoforest.maps.mosaic.placed import PlacedMap, digest_of, tile_name
from geoforest.maps.mosaic.plan import TileOutline, tile_box, zone_georef
from geoforest.maps.mosaic.tiles import STRIP_ROWS, open_probability, read_piece
from geoforest.scenes.read import GDAL_OPTIONS
from geoforest.types import NO_OBSERVATION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from geoforest.arrays.zones import Floats, Zone

    _Sources = list[tuple[PlacedMap, rasterio.DatasetReader]]

GROUND_NAME: Final = "ground.json"
_FORMAT_VERSION: Final = 1
# A share of the ground: rounding of sums.
_ROUNDING: Final = 1e-6


@dataclass(frozen=True)
class Survey:
    """Part of the maps of one zone to measure: those pixels of theirs that lie in one tile.

    Attributes
    ----------
    grid, across, up, window
        Grid of the zone, and the tile; it may lie beyond the zone's borders.
    maps
        Maps on this grid that touch the tile, by scene.
    earlier
        Maps of zones that come before this one and overlap them there, by scene: ground that they
        observed is counted with them.
    aoi
        Area of interest in WKB and the CRS of the zone, or None.
    """

    grid: ZoneGrid
    across: int
    up: int
    window: Window
    maps: tuple[PlacedMap, ...]
    earlier: tuple[PlacedMap, ...]
    aoi: bytes | None

    @property
    def name(self) -> str:
        """See :func:`geoforest.maps.mosaic.placed.tile_name`."""
        return tile_name(self.grid, self.across, self.up)

    @cached_property
    def digest(self) -> str:
        """Hash of everything that decides what is measured."""
        facts = {
            "format": _FORMAT_VERSION,
            "maps": [one.identity for one in self.maps],
            "earlier": [one.identity for one in self.earlier],
        }
        return digest_of(self.grid, self.name, self.aoi, facts)


def plan_surveys(maps: Sequence[PlacedMap], aoi: TileOutline | None = None) -> list[Survey]:
    """Return the parts of maps to measure; together they are all pixels of all maps, once.

    Parameters
    ----------
    maps
        Maps of the mosaic.
    aoi
        See :func:`geoforest.maps.mosaic.plan.plan_tiles`.
    """
    own: dict[tuple[ZoneGrid, int, int], list[PlacedMap]] = {}
    earlier: dict[tuple[ZoneGrid, int, int], dict[str, PlacedMap]] = {}
    ordered = sorted(maps, key=lambda one: one.scene_id)
    for one in ordered:
        for across, up in one.grid.tiles(one.window):
            own.setdefault((one.grid, across, up), []).append(one)
    for one, other, outline in _overlapping(ordered):
        for across, up in other.grid.tiles(other.window):
            tile = tile_box(other.grid, across, up)
            if shapely.intersection(outline, tile).area > 0:
                known = earlier.setdefault((other.grid, across, up), {})
                known[one.scene_id] = one
    found = []
    for tile, some in own.items():
        window = tile[0].tile(*tile[1:])
        wkb = None if aoi is None else aoi(tile[0], window)
        if aoi is None or wkb is not None:
            before = tuple(earlier.get(tile, {}).values())
            found.append(Survey(*tile, window, tuple(some), before, wkb))
    return sorted(found, key=lambda one: one.name)


def _overlapping(
    maps: Sequence[PlacedMap],
) -> Iterable[tuple[PlacedMap, PlacedMap, shapely.Geometry]]:
    """Yield maps of two zones that overlap, and what they share on the grid of the second one."""
    west, south, east, north = np.array([degrees_around(one) for one in maps]).T
    zones = np.array([one.grid.zone.code for one in maps])
    for place, one in enumerate(maps):
        near = (zones > zones[place]) & (south < north[place]) & (north > south[place])
        near &= overlap(west, east, west[place], east[place])
        outlines: dict[Zone, shapely.Polygon | None] = {}
        for other in (maps[at] for at in np.flatnonzero(near).tolist()):
            zone = other.grid.zone
            if zone not in outlines:
                outlines[zone] = outline_in(one, zone)
            outline, at, window = outlines[zone], other.grid.transform(other.window), other.window
            if outline is None:
                continue
            box = shapely.box(*(at @ (0, window.height)), *(at @ (window.width, 0)))
            shared = shapely.intersection(outline, box)
            if shared.area > 0:
                yield one, other, shared


def measure(survey: Survey) -> dict[str, Any]:
    """Measure the ground that a part of the maps observed.

    Returns
    -------
    dict
        ``digest``; ``sum_ha``: ground of each map, added; ``union_ha``: ground that any of them
        observed and no map of an earlier zone; ``border_ha``: ground of the pixels along borders
        of what two zones share, of which a half may be counted otherwise by a mosaic.

    Raises
    ------
    ReadError
        When a map cannot be read.
    """
    table = PixelTable.build(zone_georef(survey.grid, survey.window))
    total = union = 0.0
    border_px = 0
    with ExitStack() as held:
        held.enter_context(rasterio.Env(**GDAL_OPTIONS, **network_options()))
        own, earlier = (
            [(one, held.enter_context(open_probability(one.path))) for one in some]
            for some in (survey.maps, survey.earlier)
        )
        for row in range(0, survey.window.height, STRIP_ROWS):
            height = min(STRIP_ROWS, survey.window.height - row)
            window = survey.window
            strip = Window(window.row_off + row, window.col_off, height, window.width)
            if all(common(one.window, strip) is None for one in survey.maps):
                continue
            inside = _inside(survey, strip)
            seen, sums = _seen(own, strip, inside, table, row)
            total += sums
            before = _seen_before(earlier, survey.grid, strip, seen)
            new = seen & ~before
            union += float(table.sums(new.astype(np.uint8), 2, at=(row, 0)).area[1])
            border_px += _border_px(new, before, survey.grid.shares(strip))
    return {
        "digest": survey.digest,
        "sum_ha": total / 1e4,
        "union_ha": union / 1e4,
        "border_ha": border_px * survey.grid.size**2 / 1e4,
    }


def _inside(survey: Survey, strip: Window) -> NDArray[np.bool_] | None:
    """Return pixels inside the area of interest; None when there is none."""
    if survey.aoi is None:
        return None
    inside: NDArray[np.bool_] = geometry_mask(
        [shapely.from_wkb(survey.aoi)],
        out_shape=strip.shape,
        transform=survey.grid.transform(strip),
        invert=True,
    )
    return inside


def _seen(
    sources: _Sources,
    strip: Window,
    inside: NDArray[np.bool_] | None,
    table: PixelTable,
    row: int,
) -> tuple[NDArray[np.bool_], float]:
    """Return the pixels that any map observed, and the ground of all maps, added, m2."""
    seen, total = np.zeros(strip.shape, np.bool_), 0.0
    for one, source in sources:
        for rows, cols, stored in read_piece(source, one, strip):
            own = stored != NO_OBSERVATION
            if inside is not None:
                own &= inside[rows, cols]
            at = row + rows.start, cols.start
            total += float(table.sums(own.astype(np.uint8), 2, at=at).area[1])
            seen[rows, cols] |= own
    return seen, total


def _seen_before(
    sources: _Sources, grid: ZoneGrid, strip: Window, wanted: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return the pixels whose centres maps of earlier zones observed."""
    seen = np.zeros(strip.shape, np.bool_)
    for one, source in sources:
        for rows, cols, stored in read_across(source, one, grid, strip, wanted):
            seen[rows, cols] |= stored != NO_OBSERVATION
    return seen


def _border_px(new: NDArray[np.bool_], before: NDArray[np.bool_], shares: Floats | None) -> int:
    """Count the pixels along borders of observed ground that lies in two zones or beyond one."""
    if shares is None and not before.any():
        return 0
    shared = before if shares is None else before | (shares < 1)
    count = 0
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        count += int(((new[one] != new[other]) & (shared[one] | shared[other])).sum())
    if shares is not None:
        count += int((new & (shares > 0) & (shares < 1)).sum())
    return count


def add_up(records: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Add what was measured.

    Returns
    -------
    dict
        ``sum_ha``: ground of each map, added; ``union_ha``: ground that any map observed;
        ``tolerance_ha``: by how much the observed ground of a mosaic may differ from it. That is
        half of the pixels along borders of what two zones share, where pixels of one grid are
        taken to another.
    """
    total, union, border = (
        sum(record[name] for record in records.values())
        for name in ("sum_ha", "union_ha", "border_ha")
    )
    return {
        "sum_ha": total,
        "union_ha": union,
        "tolerance_ha": border / 2 + _ROUNDING * union,
    }


def disagreement(observed_ha: float, ground: Mapping[str, float]) -> str | None:
    """Return a sentence when observed ground is not the union of what maps observed; else None."""
    lost = ground["union_ha"] - observed_ha
    if abs(lost) <= ground["tolerance_ha"]:
        return None
    what = "are not in the mosaic" if lost > 0 else "too many are in the mosaic"
    return (
        f"{abs(lost):,.1f} ha {what}: its maps observed {ground['union_ha']:,.1f} ha of ground, "
        f"and it has {observed_ha:,.1f} ha (up to {ground['tolerance_ha']:,.1f} ha are pixels "
        "along borders of zones)"
    )
