"""Files of a whole mosaic beside its rasters and polygons: overviews, page, tables, record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoforest._version import __version__
from geoforest.io.names import (
    COUNT_NAME,
    FOREST_LABEL,
    MASK_NAME,
    MOSAIC_NAME,
    PROBABILITY_NAME,
    QUICKLOOK_NAME,
    REPORT_NAME,
    UNITS_NAME,
)
from geoforest.io.recorded import recorded_files
from geoforest.io.storage import sealed, write_durably, write_json
from geoforest.io.tables import csv_text
from geoforest.maps.mosaic.catalogue import CATALOGUE_NAME, ITEM_NAME, write_catalogue
from geoforest.maps.mosaic.cells import CELLS_NAME, write_fraction
from geoforest.maps.mosaic.ground import GROUND_NAME, disagreement
from geoforest.maps.mosaic.overview import write_overview
from geoforest.maps.mosaic.page import write_report
from geoforest.maps.mosaic.pieces import PIECES_NAME, TABLE_NAME
from geoforest.maps.mosaic.request import FRACTION_NAME, OVERVIEW_NAME, TILES_NAME
from geoforest.maps.units.areas import areas_on
from geoforest.maps.units.page import UnitTable, unit_table
from geoforest.maps.units.zonal import open_mask

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from geoforest.arrays.zones import Zone
    from geoforest.maps.mosaic.pieces import ZoneRasters
    from geoforest.maps.mosaic.placed import PlacedMap
    from geoforest.maps.mosaic.plan import TileJob
    from geoforest.maps.mosaic.request import Mosaic
    from geoforest.maps.units.read import Units


def write_overviews(mosaic: Mosaic, records: Mapping[str, Mapping[str, Any]]) -> None:
    """Write forest fraction, generalised outlines and STAC catalogue."""
    folder = mosaic.folder
    mosaic.progress("overview", 0, 1)
    write_fraction(folder / FRACTION_NAME, [mosaic.tile(job) / CELLS_NAME for job in mosaic.jobs])
    write_overview(folder / OVERVIEW_NAME, folder / FRACTION_NAME, mosaic.rules.attributes)
    tiles = {job.name: (job, mosaic.tile(job), records[job.name]) for job in mosaic.jobs}
    write_catalogue(folder, tiles, f"{FOREST_LABEL.capitalize()} of {len(mosaic.maps)} scenes")
    mosaic.progress("overview", 1, 1)


def write_texts(
    mosaic: Mosaic,
    zones: Mapping[Zone, ZoneRasters],
    records: Mapping[str, Mapping[str, Any]],
    summary: dict[str, Any],
) -> None:
    """Measure units, and write page, table of units and ``mosaic.json``, which comes last."""
    folder = mosaic.folder
    mosaic.progress("units", 0, 1)
    table = _measure_units(mosaic.units, zones, summary)
    mosaic.progress("units", 1, 1)
    write_report(
        folder / REPORT_NAME,
        fraction=folder / FRACTION_NAME,
        probability=[zone.probability for zone in zones.values()],
        counts=[folder / f"{Path(COUNT_NAME).stem}_{zone.name}.vrt" for zone in zones],
        scenes=_pictures(mosaic.maps),
        dates={one.scene_id: one.finished.acquired[:10] for one in mosaic.maps},
        summary=summary,
        zones=_hectares_by_zone(mosaic.jobs, records),
        units=table,
        code=mosaic.language,
    )
    if summary["units"]:
        write_durably(folder / UNITS_NAME, csv_text(summary["units"]).encode())
    summary["question"] = mosaic.question
    summary["outputs"] = _outputs(mosaic, zones, units=bool(summary["units"]))
    write_json(folder / MOSAIC_NAME, sealed(summary))


def summarise(
    mosaic: Mosaic,
    records: Mapping[str, Mapping[str, Any]],
    counts: Mapping[str, int],
    ground: Mapping[str, float],
) -> dict[str, Any]:
    """Return the content of ``mosaic.json``, without units, question and outputs."""
    maps, jobs, rules, notes = mosaic.maps, mosaic.jobs, mosaic.rules, mosaic.notes
    hectares = {
        name: sum(records[job.name]["hectares"][name] for job in jobs)
        for name in ("forest", "other")
    }
    observed = sum(hectares.values())
    wrong = disagreement(observed, ground)
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
        "ground": dict(ground),
        "forest_percent": 100 * hectares["forest"] / observed if observed else None,
        "polygons": dict(counts),
        "units": None,
        "warnings": [*([] if wrong is None else [wrong]), *mosaic.warnings],
        "notes": notes,
    }


def _pictures(maps: list[PlacedMap]) -> list[Path]:
    """Return the scenes' pictures in true colour, the latest first; maps may have none."""
    latest = sorted(maps, key=lambda one: one.finished.acquired, reverse=True)
    paths = [one.finished.folder / QUICKLOOK_NAME for one in latest]
    return [path for path in paths if path.is_file()]


def _measure_units(
    units: Units | None,
    zones: Mapping[Zone, ZoneRasters],
    summary: dict[str, Any],
) -> UnitTable | None:
    """Add hectares by unit to the summary; return the table for the page."""
    if units is None:
        return None
    areas = areas_on([open_mask(zone.mask, owned=True) for zone in zones.values()], units)
    summary["units"], summary["notes"] = areas.rows(), [*summary["notes"], *areas.notes]
    return unit_table(units, areas)


def _hectares_by_zone(
    jobs: list[TileJob], records: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, float]]:
    """Return hectares of forest and other per zone."""
    found: dict[str, dict[str, float]] = {}
    for job in jobs:
        zone = found.setdefault(job.grid.zone.name, {"forest": 0.0, "other": 0.0})
        for name in zone:
            zone[name] += records[job.name]["hectares"][name]
    return found


def _outputs(mosaic: Mosaic, zones: Iterable[Zone], *, units: bool) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of all files of a mosaic but those that a tile lists itself."""
    names = [TABLE_NAME, FRACTION_NAME, OVERVIEW_NAME, CATALOGUE_NAME, REPORT_NAME, GROUND_NAME]
    names += [UNITS_NAME] if units else []
    for zone in zones:
        names.append(f"forest_{zone.name}.gpkg")
        names += [
            f"{Path(name).stem}_{zone.name}.vrt"
            for name in (MASK_NAME, PROBABILITY_NAME, COUNT_NAME)
        ]
    for job in mosaic.jobs:
        names += [f"{PIECES_NAME}/{job.name}.parquet", f"{TILES_NAME}/{job.name}/{ITEM_NAME}"]
    return recorded_files(mosaic.folder, sorted(names))
