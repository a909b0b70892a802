"""The way of a mosaic: maps are checked, tiles made side by side, and zones put together."""

from __future__ import annotations

import shutil
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import shapely
from distributed import Client, as_completed
from distributed.scheduler import KilledWorker

from geoforest._version import __version__
from geoforest.arrays.polygons.polygons import check_rules
from geoforest.arrays.zones import Zone, ZoneGrid, hull
from geoforest.compute.cluster import Cluster, gpu_workers
from geoforest.errors import GeoforestError, IncompleteError, InputError, OutputError
from geoforest.io.names import (
    COUNT_NAME,
    FOREST_LABEL,
    MASK_NAME,
    MOSAIC_NAME,
    PROBABILITY_NAME,
    REPORT_NAME,
    SUMMARY_NAME,
    UNITS_NAME,
    style_name,
)
from geoforest.io.storage import exclusive_lock, read_json, writable, write_durably, write_json
from geoforest.io.styles import read_style
from geoforest.io.tables import csv_text
from geoforest.io.vrt import write_vrt
from geoforest.maps.mosaic.catalogue import write_catalogue
from geoforest.maps.mosaic.cells import CELLS_NAME, write_fraction
from geoforest.maps.mosaic.overview import write_overview
from geoforest.maps.mosaic.page import write_report
from geoforest.maps.mosaic.pieces import ZoneRasters
from geoforest.maps.mosaic.plan import (
    Map,
    TileJob,
    check_together,
    map_folders,
    plan_tiles,
    read_map,
    zone_georef,
)
from geoforest.maps.mosaic.polygons import PolygonRules, Rewritten, make_polygons
from geoforest.maps.mosaic.rule import MosaicRule
from geoforest.maps.mosaic.tiles import finished, make_tile
from geoforest.maps.units.areas import areas_on
from geoforest.maps.units.page import UnitTable, unit_table
from geoforest.maps.units.read import Units, asked_units
from geoforest.maps.units.zonal import open_mask
from geoforest.types import Progress, quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from geoforest.arrays.grid import Window

FRACTION_NAME = "forest_fraction.tif"
OVERVIEW_NAME = "overview.gpkg"
TILES_NAME = "tiles"


@dataclass(frozen=True)
class MosaicResult:
    """What a mosaic left on disk.

    Attributes
    ----------
    folder
    summary
        The content of ``mosaic.json``.
    """

    folder: Path
    summary: dict[str, Any]


def mosaic_maps(
    maps: Iterable[str | Path],
    out: str | Path,
    *,
    rule: MosaicRule = "mean",
    threshold: float | None = None,
    min_area_ha: float = 0.5,
    max_vertices: int = 100_000,
    aoi: str | Path | None = None,
    zones: str | Path | None = None,
    by: str | None = None,
    mixed_models: bool = False,
    workers: int = 0,
    scheduler: str | None = None,
    progress: Progress = quiet,
) -> MosaicResult:
    """Put maps of many scenes together: one product a UTM zone, each piece of ground once.

    What is there already, made of the same, is left alone: with one more scene only the tiles that
    it touches are made anew, and a run that was killed goes on.

    Parameters
    ----------
    maps
        Output folders of ``geoforest map``, or folders that hold such: all scenes of the mosaic.
    out
        Folder of the mosaic.
    rule
        What a pixel becomes that several maps saw: the ``mean`` probability, that of the
        ``latest`` map, or that of the ``clearest``, of which most was observed; ties by scene id.
    threshold
        Probability at or above which a pixel is forest; by default that of the maps.
    min_area_ha, max_vertices
        As for ``map``; patches are whole across tiles and zones.
    aoi
        Vector file that limits the work.
    zones, by
        Vector file of units and the field that names them, as for ``geoforest area``: hectares by
        unit are in the report, ``mosaic.json`` and ``units.csv``, too.
    mixed_models
        Whether maps of different models may be put together.
    workers, scheduler
        Where tiles are made, as for ``map``.
    progress
        Told how far it is.

    Returns
    -------
    MosaicResult

    Raises
    ------
    InputError
        When the maps cannot be used, or not together.
    OutputError
        When the folder holds something else, or another run writes there.
    """
    if rule not in get_args(MosaicRule):
        raise InputError(f"--rule {rule!r}: one of {', '.join(get_args(MosaicRule))} was wanted")
    units = asked_units(zones, by)
    check_rules(min_area_ha=min_area_ha, max_vertices=max_vertices)
    read = [read_map(folder) for given in maps for folder in map_folders(given)]
    notes = check_together(read, threshold=threshold, mixed=mixed_models)
    chosen = read[0].made.threshold if threshold is None else threshold
    model = ", ".join(sorted({one.made.model for one in read}))
    outline = _outline(aoi) if aoi is not None else None
    jobs = plan_tiles(read, rule=rule, threshold=chosen, model=model, aoi=outline)
    if not jobs:
        raise InputError("no tile of any zone is touched by the maps (--aoi lies beside them?)")
    folder = Path(out)
    _check_target(folder)
    with writable(folder):
        (folder / TILES_NAME).mkdir(parents=True, exist_ok=True)
    with exclusive_lock(folder):
        rules = PolygonRules(
            min_area_ha,
            max_vertices,
            {"model": model, "threshold": chosen, "rule": rule},
        )
        cluster = Cluster(workers, scheduler)
        summary = _make(read, jobs, folder, rules, units, cluster, progress, notes)
    return MosaicResult(folder, summary)


def _check_target(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; a folder was wanted")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / TILES_NAME).is_dir():
        raise OutputError(f"{folder}: holds something else than a mosaic; choose another --out")


def _outline(path: str | Path) -> Callable[[ZoneGrid, Window], bytes | None]:
    """Area of interest in the CRS of any zone, cut to a tile; None where it lies beside it."""
    from geoforest.io.polygon_files import outline_in, read_polygons

    polygons = read_polygons(path)

    def of_tile(grid: ZoneGrid, window: Window) -> bytes | None:
        georef = zone_georef(grid, window)
        found = outline_in(polygons, shapely.box(*georef.bounds), georef.crs, max(window.shape))
        if found is None:
            return None
        wkb: bytes = shapely.to_wkb(found)
        return wkb

    return of_tile


def _make(
    maps: list[Map],
    jobs: list[TileJob],
    folder: Path,
    rules: PolygonRules,
    units: Units | None,
    cluster: Cluster,
    progress: Progress,
    notes: list[str],
) -> dict[str, Any]:
    question = {
        "tiles": {job.name: job.digest for job in jobs},
        "min_area_ha": rules.min_area_ha,
        "max_vertices": rules.max_vertices,
        "units": None if units is None else units.digest,
        "geoforest": __version__,
    }
    before = read_json(folder / MOSAIC_NAME)
    if before is not None and (before.get("question") != question or not _all_there(jobs, folder)):
        # Until it is back, the folder is not taken for one in which all files agree.
        (folder / MOSAIC_NAME).unlink()
        if before.get("units"):
            (folder / UNITS_NAME).unlink(missing_ok=True)
        before = None
    records, made = _make_tiles(jobs, folder, cluster, progress)
    removed = _drop_others(jobs, folder)
    zones = _zones(jobs, folder)
    if before is not None:
        return {**before, "rewritten": _rewritten([], removed, Rewritten())}
    progress("polygons", 0, 1)
    rewritten, counts = make_polygons(
        zones, folder, rules, lambda zone: folder / f"forest_{zone.name}.gpkg"
    )
    progress("polygons", 1, 1)
    progress("overview", 0, 1)
    sums = [folder / TILES_NAME / job.name / CELLS_NAME for job in jobs]
    write_fraction(folder / FRACTION_NAME, sums)
    write_overview(folder / OVERVIEW_NAME, folder / FRACTION_NAME, rules.attributes)
    tiles = {job.name: (job, folder / TILES_NAME / job.name, records[job.name]) for job in jobs}
    write_catalogue(folder, tiles, f"Forest cover (model) of {len(maps)} scenes")
    progress("overview", 1, 1)
    summary = _summary(maps, jobs, records, rules, counts, notes)
    summary["rewritten"] = _rewritten(made, removed, rewritten)
    progress("units", 0, 1)
    table = _units(units, zones, summary)
    progress("units", 1, 1)
    write_report(
        folder / REPORT_NAME,
        folder / FRACTION_NAME,
        [zone.probability for zone in zones.values()],
        [folder / f"{Path(COUNT_NAME).stem}_{zone.name}.vrt" for zone in zones],
        summary,
        _by_zone(jobs, records),
        table,
    )
    if summary["units"]:
        write_durably(folder / UNITS_NAME, csv_text(summary["units"]).encode())
    summary["question"] = question
    write_json(folder / MOSAIC_NAME, summary)
    return summary


def _units(
    units: Units | None,
    zones: Mapping[Zone, ZoneRasters],
    summary: dict[str, Any],
) -> UnitTable | None:
    """Measure forest in units, into the summary; gives what the page tells of them."""
    if units is None:
        return None
    areas = areas_on([open_mask(zone.mask, owned=True) for zone in zones.values()], units)
    summary["units"], summary["notes"] = areas.rows(), [*summary["notes"], *areas.notes]
    return unit_table(units, areas)


def _rewritten(made: list[str], removed: list[str], polygons: Rewritten) -> dict[str, Any]:
    return {
        "tiles": sorted(made),
        "removed_tiles": sorted(removed),
        "pieces": sorted(polygons.pieces),
        "zones": sorted(polygons.zones),
        "table": polygons.table,
    }


def _make_tiles(
    jobs: list[TileJob], folder: Path, cluster: Cluster, progress: Progress
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Make the tiles that are missing or made of something else.

    Returns
    -------
    records
        Of all tiles.
    made
        Names of those that were made.
    """
    records = {}
    missing = []
    for job in jobs:
        record = finished(job, folder / TILES_NAME / job.name)
        if record is None:
            missing.append(job)
        else:
            records[job.name] = record
    progress("tiles", 0, len(missing))
    if missing:
        # Workers may have another current folder.
        where = (folder / TILES_NAME).absolute()
        with cluster.client() as client:
            for done, (name, record) in enumerate(_computed(client, missing, where), 1):
                records[name] = record
                progress("tiles", done, len(missing))
    return records, [job.name for job in missing]


def _computed(
    client: Client, jobs: list[TileJob], where: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Tiles as they are finished; few wait at the scheduler, however many there are."""
    waiting = deque(jobs)
    ahead = 2 * max(1, len(gpu_workers(client)))
    running = as_completed()
    names: dict[Any, str] = {}
    while waiting or names:
        while waiting and len(names) < ahead:
            job = waiting.popleft()
            future = client.submit(_made, job, where / job.name, pure=False)
            names[future.key] = job.name
            running.add(future)
        future = next(running)
        name = names.pop(future.key)
        try:
            yield name, future.result()
        except KilledWorker as error:
            raise IncompleteError(
                f"{where / name}: workers died of it, of too little memory perhaps; the same "
                "command goes on from there"
            ) from error


def _all_there(jobs: list[TileJob], folder: Path) -> bool:
    return all(finished(job, folder / TILES_NAME / job.name) is not None for job in jobs)


def _made(job: TileJob, folder: Path) -> dict[str, Any]:
    """Make a tile on a worker; its error travels alone, as causes of GDAL's cannot be unpickled."""
    try:
        return make_tile(job, folder)
    except GeoforestError as error:
        alone = type(error)(str(error))
    raise alone


def _drop_others(jobs: list[TileJob], folder: Path) -> list[str]:
    """Remove tiles that no map of this mosaic touches."""
    wanted = {job.name for job in jobs}
    others = [
        path
        for path in (folder / TILES_NAME).iterdir()
        if path.is_dir() and path.name not in wanted
    ]
    for path in others:
        shutil.rmtree(path)
    return [path.name for path in others]


def _zones(jobs: list[TileJob], folder: Path) -> dict[Zone, ZoneRasters]:
    """Put the tiles of each zone together as virtual rasters."""
    by_zone: dict[Zone, list[TileJob]] = {}
    for job in jobs:
        by_zone.setdefault(job.grid.zone, []).append(job)
    found = {}
    for zone, own in by_zone.items():
        grid, window = own[0].grid, hull([job.window for job in own])
        paths = {}
        for name, like, nodata in (
            (MASK_NAME, "mask", 255),
            (PROBABILITY_NAME, "probability", 255),
            (COUNT_NAME, "count", 0),
        ):
            path = folder / f"{Path(name).stem}_{zone.name}.vrt"
            tiles = {folder / TILES_NAME / job.name / name: job.window for job in own}
            write_vrt(
                path,
                tiles,
                window=window,
                georef=zone_georef(grid, window),
                like=like,
                nodata=nodata,
            )
            paths[like] = path
            if like != "count":
                write_durably(path.with_suffix(".qml"), read_style(style_name(name)).encode())
        found[zone] = ZoneRasters(
            grid,
            window,
            paths["mask"],
            paths["probability"],
            {job.name: job.window for job in own},
        )
    return found


def _by_zone(
    jobs: list[TileJob], records: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, float]]:
    """Hectares of forest and other in each zone."""
    found: dict[str, dict[str, float]] = {}
    for job in jobs:
        zone = found.setdefault(job.grid.zone.name, {"forest": 0.0, "other": 0.0})
        for name in zone:
            zone[name] += records[job.name]["hectares"][name]
    return found


def _warnings(maps: list[Map]) -> list[str]:
    """Failed checks of the maps, a sentence each, as their own reports tell them."""
    found = []
    for one in maps:
        summary = read_json(one.made.folder / SUMMARY_NAME) or {}
        verdicts = (summary.get("quality") or {}).get("verdicts", [])
        found += [
            f"{one.scene_id}: {verdict['sentence']}"
            for verdict in verdicts
            if verdict["passed"] is False
        ]
    return sorted(found)


def _summary(
    maps: list[Map],
    jobs: list[TileJob],
    records: Mapping[str, Mapping[str, Any]],
    rules: PolygonRules,
    counts: Mapping[str, int],
    notes: list[str],
) -> dict[str, Any]:
    hectares = {
        name: sum(records[job.name]["hectares"][name] for job in jobs)
        for name in ("forest", "other")
    }
    observed = sum(hectares.values())
    return {
        "geoforest": __version__,
        "label": FOREST_LABEL,
        **rules.attributes,
        "min_area_ha": rules.min_area_ha,
        "scenes": sorted(one.scene_id for one in maps),
        "zones": sorted({job.grid.zone.name for job in jobs}),
        "tiles": len(jobs),
        "pixels": {
            name: sum(records[job.name]["pixels"][name] for job in jobs)
            for name in ("forest", "other", "no_observation")
        },
        "hectares": {**hectares, "observed": observed},
        "forest_percent": 100 * hectares["forest"] / observed if observed else None,
        "polygons": dict(counts),
        "units": None,
        "warnings": _warnings(maps),
        "notes": notes,
    }
