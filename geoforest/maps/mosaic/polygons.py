"""Polygons of all zones: whole inside a zone, cut at its borders, joined across them by id."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import pandas as pd
import pyproj
import shapely

from geoforest.arrays.polygons.polygons import PolygonStream
from geoforest.arrays.polygons.reproject import reprojected
from geoforest.io.cog import read_strips
from geoforest.io.recorded import replace_if_other
from geoforest.io.vectors import write_polygons
from geoforest.maps.mosaic.join import Joined, global_ids, join_zones
from geoforest.maps.mosaic.pieces import ZoneRasters, group_by_tile, tile_edges, write_pieces
from geoforest.maps.mosaic.plan import zone_georef

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from geoforest.arrays.zones import Numbers, Zone, ZoneGrid

# Chords of a meridian in both zones are within 0.1 mm of each other.
_OVERLAP_M = 0.002
_GEOD = pyproj.Geod(ellps="WGS84")


@dataclass(frozen=True)
class PatchRules:
    """Rules for the polygons of patches that are whole across tiles and zones.

    Attributes
    ----------
    min_area_ha
        Minimum mapping unit of whole patches, across zones, and of holes.
    max_vertices
        Patches with more vertices are cut into parts; 0 never cuts.
    attributes
        Columns that are the same in each row.
    """

    min_area_ha: float
    max_vertices: int
    attributes: Mapping[str, Any]

    def min_px(self, grid: ZoneGrid) -> int:
        """Return the minimum mapping unit in pixels of nominal size, the same in all zones."""
        return math.ceil(round(self.min_area_ha * 1e4 / grid.size**2, 9))


@dataclass
class Rewritten:
    """Files that were written or changed; identical existing files are kept."""

    pieces: list[str] = field(default_factory=list)
    zones: list[str] = field(default_factory=list)
    table: bool = False


@dataclass(eq=False)
class _BorderPatch:
    """Patch that continues in another zone.

    Attributes
    ----------
    area_ha
        Ground area of all its pixels per zone, hectares.
    vertices
        Number of vertices of all its polygons.
    rows
        Its polygons while they are few: one row each, with the outline before the cut.
    """

    area_ha: dict[Zone, float] = field(default_factory=dict)
    vertices: int = 0
    rows: list[tuple[Zone, geopandas.GeoDataFrame]] = field(default_factory=list)


@dataclass(eq=False)
class _WholePatches:
    """Facts about patches that only the polygons of all zones together show.

    Attributes
    ----------
    across
        Patches that continue in another zone, by id.
    beyond_ha
        Hectares that patches lost to cuts at borders of zones, by id.
    """

    across: dict[int, _BorderPatch]
    beyond_ha: dict[int, float] = field(default_factory=dict)

    def with_whole_areas(self, frame: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
        """Return polygons with the area of their whole patches."""
        areas = {number: sum(of.area_ha.values()) for number, of in self.across.items()}
        own = frame["patch_area_ha"].astype(np.float64)
        area = frame["patch_id"].map(areas).astype(np.float64).fillna(own)
        beyond = frame["patch_id"].map(self.beyond_ha).astype(np.float64).fillna(0.0)
        return frame.assign(patch_area_ha=area - beyond)


def make_polygons(
    zones: Mapping[Zone, ZoneRasters],
    folder: Path,
    rules: PatchRules,
    package: Callable[[Zone], Path],
) -> tuple[Rewritten, dict[str, int]]:
    """Write the polygons of each zone, the pieces of each tile, and the table of pieces.

    Parameters
    ----------
    zones
        Rasters of each zone.
    folder
        Folder of the mosaic.
    rules
        Rules of polygons.
    package
        Returns the GeoPackage to write for a zone.

    Returns
    -------
    Rewritten
        Files that were written or changed.
    dict
        Numbers of ``patches``, ``polygons``, ``pieces``, ``across_zones``.

    Notes
    -----
    Holes that cross a border of zones are not filled.
    """
    rewritten = Rewritten()
    with ExitStack() as held:
        streams = {
            zone: held.enter_context(_filled_stream(rasters, rules, folder))
            for zone, rasters in zones.items()
        }
        joined = join_zones(
            {zone: (of.grid, of.window, streams[zone]) for zone, of in zones.items()}
        )
        numbers = {int(one) for some in joined.values() for one in some.patch_id}
        known = _WholePatches({number: _BorderPatch() for number in numbers})
        spools: dict[Zone, Path] = {}
        n_patches = 0
        for zone, rasters in sorted(zones.items()):
            stream = streams[zone]
            stream.add_elsewhere(joined[zone].first, joined[zone].elsewhere)
            spools[zone] = folder / f".{zone.name}.spool.parquet"
            held.callback(spools[zone].unlink, missing_ok=True)
            frames = _collect_border_patches(
                _number_and_clip(stream.frames(), rasters, joined[zone]), zone, known, rules
            )
            write_polygons(frames, spools[zone])
            n_patches += stream.counts().patches
            stream.close()
        merged = _merge_across_zones(known.across)
        n_polygons = 0
        for zone in sorted(zones):
            counted: list[int] = []
            frames = _count_rows(_final_frames(spools[zone], zone, known, merged), counted)
            path = package(zone)
            if replace_if_other(path, partial(write_polygons, frames)):
                rewritten.zones.append(zone.name)
            n_polygons += sum(counted)
        cut = _cut_at_tiles(zones, folder, rules, joined)
        n_pieces, rewritten.pieces, rewritten.table = write_pieces(
            cut, folder, known.with_whole_areas
        )
    several = [len(patch.area_ha) for patch in known.across.values() if len(patch.area_ha) > 1]
    facts = {
        "patches": n_patches - sum(several) + len(several),
        "polygons": n_polygons,
        "pieces": n_pieces,
        "across_zones": len(several),
    }
    return rewritten, facts


def _filled_stream(
    rasters: ZoneRasters, rules: PatchRules, folder: Path, **cuts: Any
) -> PolygonStream:
    stream = PolygonStream(
        zone_georef(rasters.grid, rasters.window),
        min_px=rules.min_px(rasters.grid),
        max_vertices=rules.max_vertices,
        attributes=dict(rules.attributes),
        folder=folder,
        **cuts,
    )
    try:
        strips = zip(read_strips(rasters.mask), read_strips(rasters.probability), strict=True)
        for (_, mask), (_, probability) in strips:
            stream.add(mask, probability)
    except BaseException:
        stream.close()
        raise
    return stream


def _cut_at_tiles(
    zones: Mapping[Zone, ZoneRasters],
    folder: Path,
    rules: PatchRules,
    joined: Mapping[Zone, Joined],
) -> Iterator[tuple[str, geopandas.GeoDataFrame]]:
    for zone, rasters in sorted(zones.items()):
        rows, cols = tile_edges(rasters)
        with _filled_stream(rasters, rules, folder, every_row=rows, every_col=cols) as stream:
            stream.add_elsewhere(joined[zone].first, joined[zone].elsewhere)
            frames = (
                frame for frame, _ in _number_and_clip(stream.frames(), rasters, joined[zone])
            )
            yield from group_by_tile(frames, rasters)


def _number_and_clip(
    frames: Iterator[geopandas.GeoDataFrame], rasters: ZoneRasters, joined: Joined
) -> Iterator[tuple[geopandas.GeoDataFrame, NDArray[np.object_]]]:
    """Set ids that are unique over all zones, and cut polygons at the borders of the zone.

    Yields
    ------
    frame
        Polygons; ``patch_id`` is the id of the whole patch.
    whole
        Geometries before the cut; None where nothing was cut.
    """
    for frame in frames:
        first = frame["patch_id"].to_numpy()
        ids = global_ids(rasters.grid, rasters.window, first)
        if len(joined.first):
            place = np.minimum(np.searchsorted(joined.first, first), len(joined.first) - 1)
            ids = np.where(joined.first[place] == first, joined.patch_id[place], ids)
        yield _clip_to_zone(frame.assign(patch_id=ids), rasters.grid.zone)


def _clip_to_zone(
    frame: geopandas.GeoDataFrame, zone: Zone
) -> tuple[geopandas.GeoDataFrame, NDArray[np.object_]]:
    geometries = frame.geometry.to_numpy()
    whole = np.full(len(frame), None, np.object_)
    if not len(frame):
        return frame, whole
    crossing = _crossing(shapely.bounds(geometries), zone)
    if not len(crossing):
        return frame, whole
    parts, source = [], []
    for place in crossing.tolist():
        _, bottom, _, top = geometries[place].bounds
        home = shapely.intersection(geometries[place], zone.territory(bottom - 500, top + 500))
        own = [part for part in shapely.get_parts(home) if part.geom_type == "Polygon"]
        parts += own
        source += [place] * len(own)
    cut = frame.iloc[source].copy()
    before = geometries[source]
    shares = shapely.area(parts) / shapely.area(before)
    cut["area_ha"] *= shares
    cut["n_pixels"] = np.maximum(np.rint(cut["n_pixels"] * shares), 1).astype(np.int64)
    cut = cut.set_geometry(shapely.orient_polygons(np.array(parts, np.object_)), crs=frame.crs)
    cut["perimeter_m"] = _perimeters(cut)
    rest = np.ones(len(frame), np.bool_)
    rest[crossing] = False
    places = np.concatenate([np.flatnonzero(rest), source])
    order = np.argsort(places, kind="stable")
    made = pd.concat([frame[rest], cut], ignore_index=True).iloc[order].reset_index(drop=True)
    return made, np.concatenate([whole[rest], before])[order]


def _crossing(bounds: NDArray[np.float64], zone: Zone) -> Numbers:
    """Return the indices of boxes that reach beyond the borders of a zone."""
    left, bottom, right, top = bounds.T
    low, high = float(bottom.min()), float(top.max())
    if zone.is_uneven:
        ground = zone.territory(low - 500, high + 500)
        shapely.prepare(ground)
        return np.flatnonzero(~shapely.covers(ground, shapely.box(*bounds.T)))
    home_low, home_high = zone.clipped(low, high)
    beyond = (bottom < home_low) | (top > home_high)
    for eastern in (False, True):
        line = zone.meridian(eastern=eastern, bottom=low, top=high)
        at = [np.interp(side, line[:, 1], line[:, 0]) for side in (bottom, top)]
        beyond |= (right > np.minimum(*at)) if eastern else (left < np.maximum(*at))
    return np.flatnonzero(beyond)


def _perimeters(frame: geopandas.GeoDataFrame) -> NDArray[np.float64]:
    """Return the ground length of all rings, metres."""
    degrees = frame.geometry.to_crs(4326)
    return np.array([_GEOD.geometry_length(polygon.boundary) for polygon in degrees])


def _collect_border_patches(
    frames: Iterator[tuple[geopandas.GeoDataFrame, NDArray[np.object_]]],
    zone: Zone,
    known: _WholePatches,
    rules: PatchRules,
) -> Iterator[geopandas.GeoDataFrame]:
    """Record what patches lose at borders of zones, and their polygons while they are few."""
    numbers = np.array(sorted(known.across), np.int64)
    for frame, whole in frames:
        for place, lost in _lost_areas(frame, whole):
            known.beyond_ha[place] = known.beyond_ha.get(place, 0.0) + lost
        for place in np.flatnonzero(np.isin(frame["patch_id"], numbers)).tolist():
            row = frame.iloc[[place]]
            patch = known.across[int(row["patch_id"].iloc[0])]
            patch.area_ha[zone] = float(row["patch_area_ha"].iloc[0])
            patch.vertices += int(shapely.get_num_coordinates(row.geometry.iloc[0]))
            if not rules.max_vertices or patch.vertices <= rules.max_vertices:
                patch.rows.append((zone, row.assign(whole=[whole[place]])))
            else:
                patch.rows.clear()
        yield frame


def _count_rows(
    frames: Iterator[geopandas.GeoDataFrame], counted: list[int]
) -> Iterator[geopandas.GeoDataFrame]:
    for frame in frames:
        counted.append(len(frame))
        yield frame


def _lost_areas(
    frame: geopandas.GeoDataFrame, whole: NDArray[np.object_]
) -> Iterator[tuple[int, float]]:
    """Yield ids of patches that were cut, and the hectares that each cut removed."""
    cut = np.flatnonzero([one is not None for one in whole])
    # A cut may leave several polygons: the loss is what all of them together lack.
    left: dict[int, tuple[int, float, float]] = {}
    for place in cut.tolist():
        row = frame.iloc[place]
        before, own = whole[place].area, row.geometry.area
        number, _, share = left.get(id(whole[place]), (0, 0.0, 0.0))
        number, area = int(row["patch_id"]), float(row["area_ha"]) * before / own
        left[id(whole[place])] = number, area, share + own / before
    for number, area, share in left.values():
        yield number, area * (1 - share)


def _merge_across_zones(
    across: Mapping[int, _BorderPatch],
) -> dict[Zone, list[geopandas.GeoDataFrame]]:
    """Merge the polygons of each small patch that lies in several zones; return them by zone."""
    found: dict[Zone, list[geopandas.GeoDataFrame]] = {}
    for patch in across.values():
        zones = {zone for zone, _ in patch.rows}
        if len(zones) < 2 or len(zones) < len(patch.area_ha):
            continue
        home = min(zones)
        found.setdefault(home, []).append(_merge_patch(home, patch.rows))
    return found


def _merge_patch(
    home: Zone, rows: list[tuple[Zone, geopandas.GeoDataFrame]]
) -> geopandas.GeoDataFrame:
    parts = []
    crs = pyproj.CRS.from_epsg(home.epsg)
    for zone, row in rows:
        if zone == home:
            parts.append(row.geometry.iloc[0])
            continue
        piece, whole = row, row["whole"].iloc[0]
        if whole is not None:
            # Overlap the border slightly, so that no gap remains between both.
            _, bottom, _, top = whole.bounds
            reach = zone.territory(bottom - 500, top + 500, overlap_m=_OVERLAP_M)
            piece = row.set_geometry([shapely.intersection(whole, reach)], crs=row.crs)
        exploded = piece.drop(columns="whole").explode(index_parts=False)
        exploded = exploded[exploded.geom_type == "Polygon"]
        moved = reprojected(exploded.reset_index(drop=True), crs, tolerance=0.1)
        parts += moved.geometry.tolist()
    union = shapely.union_all(parts)
    polygons = shapely.orient_polygons(shapely.get_parts(union))
    pixels = np.array([int(row["n_pixels"].iloc[0]) for _, row in rows])
    means = np.array([float(row["mean_probability"].iloc[0]) for _, row in rows])
    area = sum(float(row["area_ha"].iloc[0]) for _, row in rows)
    shares = shapely.area(polygons) / shapely.area(polygons).sum()
    made = rows[0][1].drop(columns="whole").iloc[[0] * len(polygons)].reset_index(drop=True)
    made = made.assign(
        area_ha=area * shares,
        n_pixels=np.maximum(np.rint(pixels.sum() * shares), 1).astype(np.int64),
        mean_probability=(means * pixels).sum() / pixels.sum(),
    ).set_geometry(polygons, crs=crs)
    return made.assign(perimeter_m=_perimeters(made))


def _final_frames(
    spool: Path,
    zone: Zone,
    known: _WholePatches,
    merged: Mapping[Zone, list[geopandas.GeoDataFrame]],
) -> Iterator[geopandas.GeoDataFrame]:
    """Yield the polygons of a zone with the areas of whole patches, merged ones last."""
    gone = {int(row["patch_id"].iloc[0]) for rows in merged.values() for row in rows}
    for frame in _read_spool(spool, pyproj.CRS.from_epsg(zone.epsg)):
        yield known.with_whole_areas(frame[~frame["patch_id"].isin(gone)])
    if merged.get(zone):
        made = pd.concat(merged[zone], ignore_index=True).sort_values("patch_id")
        made = made.set_crs(f"EPSG:{zone.epsg}", allow_override=True)
        yield known.with_whole_areas(made.reset_index(drop=True))


def _read_spool(spool: Path, crs: pyproj.CRS) -> Iterator[geopandas.GeoDataFrame]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(spool) as source:
        for group in range(max(1, source.num_row_groups)):
            table = source.read_row_group(group).drop_columns("bbox")
            frame = table.to_pandas()
            geometry = shapely.from_wkb(frame.pop("geometry").to_numpy())
            yield geopandas.GeoDataFrame(frame, geometry=geometry, crs=crs)
