"""Make a mosaic: check maps, make tiles in parallel, assemble zones, and write the products."""

from __future__ import annotations

import shutil
from collections import deque
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import shapely
from distributed import Client, as_completed
from distributed.scheduler import KilledWorker

from geoforest.arrays.polygons.polygons import check_rules
from geoforest.arrays.zones import Zone, ZoneGrid, hull
from geoforest.compute.cluster import Cluster, gpu_workers
from geoforest.errors import GeoforestError, IncompleteError, InputError, OutputError
from geoforest.io.locks import exclusive_lock
from geoforest.io.names import (
    COUNT_NAME,
    MASK_NAME,
    MOSAIC_NAME,
    PROBABILITY_NAME,
    UNITS_NAME,
    style_name,
)
from geoforest.io.polygon_files import Outline, read_outline, where_they_are
from geoforest.io.recorded import is_recorded
from geoforest.io.storage import (
    is_sealed,
    is_unchanged,
    read_json,
    sealed,
    writable,
    write_durably,
    write_json,
)
from geoforest.io.styles import read_style
from geoforest.io.vrt import write_vrt
from geoforest.maps.mosaic.ground import (
    GROUND_NAME,
    add_up,
    measure,
    plan_surveys,
)
from geoforest.maps.mosaic.pieces import PIECES_NAME, ZoneRasters
from geoforest.maps.mosaic.plan import (
    TileJob,
    TileOutline,
    check_together,
    map_folders,
    newest_of_each,
    plan_tiles,
    read_map,
    zone_georef,
)
from geoforest.maps.mosaic.polygons import PatchRules, Rewritten, make_polygons
from geoforest.maps.mosaic.products import summarise, write_overviews, write_texts
from geoforest.maps.mosaic.request import FRACTION_NAME, TILES_NAME, Mosaic
from geoforest.maps.mosaic.rule import MosaicRule
from geoforest.maps.mosaic.tiles import finished_record, make_tile
from geoforest.maps.units.areas import check_touched
from geoforest.maps.units.read import asked_units
from geoforest.types import Progress, quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from geoforest.arrays.grid import Window
    from geoforest.maps.mosaic.placed import PlacedMap
    from geoforest.report.language import LanguageCode

_SHOWN_NAMES = 5
_LEFTOVERS = (
    ".*.partial",
    ".*.partial-*",
    ".*.new.*",
    ".*.spool.parquet",
    ".*.flat",
    ".*.flat.vrt",
)


@dataclass(frozen=True)
class MosaicResult:
    """Finished mosaic.

    Attributes
    ----------
    folder
        Folder of the mosaic.
    summary
        The content of ``mosaic.json``.
    """

    folder: Path
    summary: dict[str, Any]

    @property
    def fraction(self) -> Path:
        """COG of the percentage of observed ground under forest."""
        return self.folder / FRACTION_NAME


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
    language: LanguageCode = "en",
    progress: Progress = quiet,
) -> MosaicResult:
    """Combine maps of many scenes: one product per UTM zone, each piece of ground counted once.

    Tiles of an earlier run that were made from the same maps are kept: one more scene rewrites
    only the tiles that it touches, and a killed run resumes.

    Parameters
    ----------
    maps
        Output folders of ``geoforest map``, or folders that hold them: all scenes of the mosaic.
    out
        Folder for the mosaic.
    rule
        Value of a pixel that several maps observed: the ``mean`` probability, that of the
        ``latest`` map, or that of the ``clearest``, with most observed pixels; ties by scene id.
    threshold
        Probability at or above which a pixel is forest; by default that of the maps.
    min_area_ha, max_vertices
        As for ``map``; patches are whole across tiles and zones.
    aoi
        Vector file with the area of interest.
    zones, by
        Vector file of units and the field that names them, as for ``geoforest area``: hectares by
        unit are in the report, ``mosaic.json`` and ``units.csv``, too.
    mixed_models
        Whether maps of different models may be combined.
    workers, scheduler
        Where tiles are made, as for ``map``.
    language
        Language of the page.
    progress
        Called with a stage, how much of it is done, and how much there is.

    Returns
    -------
    MosaicResult

    Raises
    ------
    InputError
        When the maps cannot be used or combined.
    OutputError
        When the folder holds something else, or another run is using it.
    """
    if rule not in get_args(MosaicRule):
        raise InputError(f"--rule {rule!r}: one of {', '.join(get_args(MosaicRule))} was wanted")
    units = asked_units(zones, by)
    check_rules(min_area_ha=min_area_ha, max_vertices=max_vertices)
    read = [read_map(folder) for given in maps for folder in map_folders(given)]
    notes = check_together(read, threshold=threshold, mixed=mixed_models)
    read, left_out = newest_of_each(read)
    chosen = read[0].finished.threshold if threshold is None else threshold
    model = ", ".join(sorted({one.finished.model for one in read}))
    outline = read_outline(aoi) if aoi is not None else None
    by_tile = _outline_by_tile(outline) if outline is not None else None
    jobs = plan_tiles(read, rule=rule, threshold=chosen, model=model, aoi=by_tile)
    if not jobs:
        raise InputError(
            "no tile of any zone is touched by the maps (--aoi lies beside them?)"
            + (_where_it_lies(outline, read) if outline is not None else "")
        )
    notes += [*left_out, *_beside(read, jobs, aoi)]
    notes += outline.notes if outline is not None else ()
    if units is not None:
        check_touched(units, {one.path: zone_georef(one.grid, one.window) for one in read})
    folder = Path(out)
    _check_folder(folder)
    with writable(folder):
        (folder / TILES_NAME).mkdir(parents=True, exist_ok=True)
    with exclusive_lock(folder):
        _remove_leftovers(folder)
        attributes = {"model": model, "threshold": chosen, "rule": rule}
        mosaic = Mosaic(
            maps=read,
            jobs=jobs,
            surveys=plan_surveys(read, by_tile),
            folder=folder,
            rules=PatchRules(min_area_ha, max_vertices, attributes),
            units=units,
            notes=notes,
            progress=progress,
            language=language,
        )
        summary = _write_mosaic(mosaic, Cluster(workers, scheduler))
    return MosaicResult(folder, summary)


def _beside(maps: list[PlacedMap], jobs: list[TileJob], aoi: str | Path | None) -> list[str]:
    """Return a note of the maps that lie beside the area of interest; refuse others left out."""
    used = {one.scene_id for job in jobs for one in (*job.maps, *job.beyond)}
    unused = [one for one in maps if one.scene_id not in used]
    if not unused:
        return []
    if aoi is None:
        raise InputError(
            f"{unused[0].path}: none of its ground would be in the mosaic, as no UTM zone has it; "
            "a map between 84 degrees north and 80 degrees south was wanted"
        )
    names = ", ".join(sorted(one.scene_id for one in unused)[:_SHOWN_NAMES])
    more = f" and {len(unused) - _SHOWN_NAMES:,} more" if len(unused) > _SHOWN_NAMES else ""
    return [f"{aoi}: {len(unused):,} maps lie beside it and are left out: {names}{more}"]


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; a folder was wanted")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / TILES_NAME).is_dir():
        raise OutputError(f"{folder}: holds something else than a mosaic; choose another --out")


def _where_it_lies(outline: Outline, maps: Iterable[PlacedMap]) -> str:
    """Tell where an area of interest beside all maps lies."""
    georefs = [zone_georef(one.grid, one.window) for one in maps]
    boxes = [(shapely.box(*georef.bounds), georef.crs) for georef in georefs]
    return f"; {outline.path}: {where_they_are(outline.polygons, boxes, 'a map')}"


def _remove_leftovers(folder: Path) -> None:
    """Remove unfinished files of a run that was killed; the lock excludes other runs."""
    for pattern in _LEFTOVERS:
        for path in (*folder.glob(pattern), *(folder / PIECES_NAME).glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _outline_by_tile(outline: Outline) -> TileOutline:
    """Return a function that cuts the area of interest to a tile: WKB, or None outside."""

    def of_tile(grid: ZoneGrid, window: Window) -> bytes | None:
        georef = zone_georef(grid, window)
        found = outline.clipped(shapely.box(*georef.bounds), georef.crs, max(window.shape))
        if found is None:
            return None
        wkb: bytes = shapely.to_wkb(found)
        return wkb

    return of_tile


def _write_mosaic(mosaic: Mosaic, cluster: Cluster) -> dict[str, Any]:
    """Make what is missing of a mosaic; return the content of ``mosaic.json``."""
    folder, jobs = mosaic.folder, mosaic.jobs
    finished = {job.name: finished_record(job, mosaic.tile(job)) for job in jobs}
    before = _unchanged_summary(mosaic, finished)
    records, made = _make_missing_tiles(jobs, finished, folder, cluster, mosaic.progress)
    removed = _remove_other_tiles(jobs, folder)
    zones = _write_zone_rasters(jobs, folder)
    if before is not None:
        return {**before, "rewritten": _rewritten_files([], removed, Rewritten())}
    ground = _measure_ground(mosaic, cluster)
    mosaic.progress("polygons", 0, 1)
    rewritten, counts = make_polygons(
        zones, folder, mosaic.rules, lambda zone: folder / f"forest_{zone.name}.gpkg"
    )
    mosaic.progress("polygons", 1, 1)
    write_overviews(mosaic, records)
    summary = summarise(mosaic, records, counts, ground)
    summary["rewritten"] = _rewritten_files(made, removed, rewritten)
    write_texts(mosaic, zones, records, summary)
    return summary


def _unchanged_summary(
    mosaic: Mosaic, finished: Mapping[str, dict[str, Any] | None]
) -> dict[str, Any] | None:
    """Return ``mosaic.json`` if it answers the same question and has all files; else delete it."""
    folder = mosaic.folder
    before = read_json(folder / MOSAIC_NAME)
    if before is None:
        return None
    if (
        before.get("question") == mosaic.question
        and is_unchanged(before)
        and None not in finished.values()
        and all(_is_there(folder / name, one) for name, one in before.get("outputs", {}).items())
    ):
        return before
    # Without it, the folder does not count as one whose files all agree.
    (folder / MOSAIC_NAME).unlink()
    if before.get("units"):
        (folder / UNITS_NAME).unlink(missing_ok=True)
    return None


def _is_there(path: Path, recorded: object) -> bool:
    # Polygons may have been edited by hand: what is wrong with them is for `verify` to say.
    return path.is_file() if path.suffix == ".gpkg" else is_recorded(path, recorded)


def _rewritten_files(made: list[str], removed: list[str], polygons: Rewritten) -> dict[str, Any]:
    return {
        "tiles": sorted(made),
        "removed_tiles": sorted(removed),
        "pieces": sorted(polygons.pieces),
        "zones": sorted(polygons.zones),
        "table": polygons.table,
    }


def _make_missing_tiles(
    jobs: list[TileJob],
    finished: Mapping[str, dict[str, Any] | None],
    folder: Path,
    cluster: Cluster,
    progress: Progress,
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Make the tiles that are missing or were made from other maps.

    Returns
    -------
    records
        Records of all tiles, by name.
    made
        Names of the tiles that were made.
    """
    records = {}
    missing = []
    for job in jobs:
        record = finished[job.name]
        if record is None:
            missing.append(job)
        else:
            records[job.name] = record
    progress("tiles", 0, len(missing))
    if missing:
        # Workers may run in another current folder.
        where = (folder / TILES_NAME).absolute()
        tasks = {job.name: partial(make_tile, job, where / job.name) for job in missing}
        with cluster.client() as client:
            for done, (name, record) in enumerate(_run_tasks(client, tasks, where), 1):
                records[name] = record
                progress("tiles", done, len(missing))
    return records, [job.name for job in missing]


def _measure_ground(mosaic: Mosaic, cluster: Cluster) -> dict[str, float]:
    """Measure the ground that the maps observed, and keep what was measured for the next run."""
    path = mosaic.folder / GROUND_NAME
    known = read_json(path) or {}
    # Figures whose checksum is wrong, or missing, are measured again.
    before = known["tiles"] if is_sealed(known) and is_unchanged(known) else {}
    surveys = {survey.name: survey for survey in mosaic.surveys}
    records = {
        name: before[name]
        for name, survey in surveys.items()
        if before.get(name, {}).get("digest") == survey.digest
    }
    tasks = {name: partial(measure, surveys[name]) for name in surveys.keys() - records.keys()}
    mosaic.progress("ground", 0, len(tasks))
    if tasks:
        with cluster.client() as client:
            measured = _run_tasks(client, dict(sorted(tasks.items())), path.absolute())
            for done, (name, record) in enumerate(measured, 1):
                records[name] = record
                mosaic.progress("ground", done, len(tasks))
    # In one order, so that sums are the same to the last bit.
    records = dict(sorted(records.items()))
    ground = add_up(records)
    if known != (found := sealed({**ground, "tiles": records})):
        write_json(path, found)
    return ground


def _run_tasks(
    client: Client, tasks: Mapping[str, Callable[[], dict[str, Any]]], where: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield results as they are finished; submit only a few at a time to the scheduler."""
    waiting = deque(tasks)
    ahead = 2 * max(1, len(gpu_workers(client)))
    running = as_completed()
    names: dict[Any, str] = {}
    while waiting or names:
        while waiting and len(names) < ahead:
            name = waiting.popleft()
            future = client.submit(_run_alone, tasks[name], pure=False)
            names[future.key] = name
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


def _run_alone(task: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run a task on a worker; raise its error without GDAL's cause, which cannot be unpickled."""
    try:
        return task()
    except GeoforestError as error:
        alone = type(error)(str(error))
    raise alone


def _remove_other_tiles(jobs: list[TileJob], folder: Path) -> list[str]:
    """Remove tiles that no map of this mosaic touches; return their names."""
    wanted = {job.name for job in jobs}
    others = [
        path
        for path in (folder / TILES_NAME).iterdir()
        if path.is_dir() and path.name not in wanted
    ]
    for path in others:
        shutil.rmtree(path)
    # Names that begin with a dot are what workers left that were killed.
    return [path.name for path in others if not path.name.startswith(".")]


def _write_zone_rasters(jobs: list[TileJob], folder: Path) -> dict[Zone, ZoneRasters]:
    """Write virtual rasters over the tiles of each zone."""
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
