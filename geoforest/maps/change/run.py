"""Compare two maps of the same ground: forest lost and gained."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio.errors import RasterioIOError

from geoforest._version import __version__
from geoforest.arrays.area import PixelTable
from geoforest.arrays.georef import GeoRef
from geoforest.arrays.polygons.polygons import PolygonStream, check_rules
from geoforest.errors import InputError, OutputError, ReadError
from geoforest.io.cog import ClassWriter, read_strips
from geoforest.io.geopackage import write_geopackage
from geoforest.io.names import UNITS_NAME
from geoforest.io.publication import new_folder
from geoforest.io.raster import open_raster
from geoforest.io.recorded import record_of, state_of
from geoforest.io.storage import read_json, sealed, write_json
from geoforest.io.styles import read_style
from geoforest.io.tables import csv_text
from geoforest.maps.change.codes import (
    CHANGE_NAME,
    COLOURS,
    GAIN,
    LAYER,
    LOSS,
    NAMES,
    POLYGONS_NAME,
    REPORT_NAME,
    SUMMARY_NAME,
    change_codes,
)
from geoforest.maps.change.page import write_report
from geoforest.maps.finished import FinishedMap, read_finished, remarks_of
from geoforest.maps.units.read import Units, asked_units
from geoforest.report.language import message
from geoforest.types import FOREST, NO_OBSERVATION, OTHER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import geopandas
    from numpy.typing import NDArray

    from geoforest.report.language import LanguageCode

_KINDS = {"loss": LOSS, "gain": GAIN}


@dataclass(frozen=True)
class ChangeResult:
    """Finished comparison.

    Attributes
    ----------
    folder
        Folder of the comparison.
    summary
        The content of ``change.json``.
    """

    folder: Path
    summary: dict[str, Any]


def map_change(
    earlier: str | Path,
    later: str | Path,
    out: str | Path,
    *,
    margin: float = 0.1,
    threshold: float | None = None,
    min_area_ha: float = 0.5,
    max_vertices: int = 100_000,
    mixed_models: bool = False,
    zones: str | Path | None = None,
    by: str | None = None,
    language: LanguageCode = "en",
) -> ChangeResult:
    """Compare two maps of the same ground: raster, polygons, hectares and page of change.

    Parameters
    ----------
    earlier, later
        Output folders of ``geoforest map``, on the same grid.
    out
        Folder to write; an earlier comparison is replaced.
    margin
        See :func:`change_codes`.
    threshold
        Threshold of both maps; by default their own, which must be the same.
    min_area_ha, max_vertices
        Rules of the polygons of loss and gain, as for ``map``.
    mixed_models
        Whether maps of different models may be compared.
    zones, by
        Vector file of units and the field that names them, as for ``geoforest area``: hectares of
        each kind of change by unit go to ``units.csv``, too.
    language
        Language of the page.

    Returns
    -------
    ChangeResult

    Raises
    ------
    InputError
        When a folder is not a map, grids, models or thresholds differ, the order is wrong, or a
        setting is out of its range.
    OutputError
        When ``out`` holds something else or cannot be written to.
    """
    maps = read_finished(earlier), read_finished(later)
    if not 0 <= margin <= 0.5:
        raise InputError(f"--margin {margin:g}: 0 to 0.5 was wanted")
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"--threshold {threshold:g}: 0 to 1 was wanted")
    check_rules(min_area_ha=min_area_ha, max_vertices=max_vertices)
    _check_together(*maps, threshold=threshold, mixed=mixed_models)
    units = asked_units(zones, by)
    chosen = maps[0].threshold if threshold is None else threshold
    settings = {
        "threshold": chosen,
        "margin": margin,
        "min_area_ha": min_area_ha,
        "max_vertices": max_vertices,
    }
    _refuse_edited(Path(out))
    with new_folder(Path(out), mark=SUMMARY_NAME, what="comparison of geoforest change") as folder:
        summary = _write_products(maps, folder, settings, units, Path(out), language)
    return ChangeResult(Path(out), summary)


def _refuse_edited(folder: Path) -> None:
    """Refuse to replace a comparison in which files were edited, or to which some were added."""
    outputs = (read_json(folder / SUMMARY_NAME) or {}).get("outputs")
    if not isinstance(outputs, dict):
        return
    for path in sorted(folder.iterdir()):
        recorded = outputs.get(path.name)
        own = path.name == SUMMARY_NAME or path.name.endswith(
            (".aux.xml", "-journal", "-wal", "-shm")
        )
        if own or path.name.startswith("."):
            continue
        if recorded is None or (path.stat().st_size and state_of(path, recorded) == "changed"):
            what = "is not of geoforest" if recorded is None else "was edited since it was made"
            raise OutputError(
                f"{path}: {what}, and would be lost with the comparison that {folder} holds; move "
                "it elsewhere, or choose another --out"
            )


def _check_together(
    earlier: FinishedMap, later: FinishedMap, *, threshold: float | None, mixed: bool
) -> None:
    grids = []
    for one in (earlier, later):
        try:
            with open_raster(one.probability) as source:
                grids.append(GeoRef.of(source, one.probability))
        except RasterioIOError as error:
            raise InputError(f"{one.probability}: cannot be read ({error})") from error
    if not grids[1].is_grid_of(grids[0]):
        raise InputError(
            f"{later.folder}: its grid ({grids[1]}) is not that of {earlier.folder} "
            f"({grids[0]}); one grid was wanted"
        )
    if earlier.model != later.model and not mixed:
        raise InputError(
            f"{later.folder}: made by model {later.model}, {earlier.folder} by {earlier.model}, "
            "and two models differ where nothing changed; one was wanted, or --mixed-models"
        )
    if earlier.threshold != later.threshold and threshold is None:
        raise InputError(
            f"{later.folder}: threshold {later.threshold:g}, that of {earlier.folder} is "
            f"{earlier.threshold:g}; give the one to apply with --threshold"
        )
    if earlier.acquired and later.acquired and earlier.acquired >= later.acquired:
        raise InputError(
            f"{later.folder}: acquired {later.acquired}, not after {earlier.folder} "
            f"({earlier.acquired}); the earlier map was wanted first"
        )


def _write_products(
    maps: tuple[FinishedMap, FinishedMap],
    folder: Path,
    settings: Mapping[str, Any],
    units: Units | None,
    out: Path,
    language: LanguageCode,
) -> dict[str, Any]:
    """Write all files of a comparison; return the content of ``change.json``."""
    pixels, areas, counts = _write_change(maps, folder, settings)
    summary = _summary(maps, out, settings, pixels, areas, counts)
    summary["units"] = None
    if units is not None:
        rows, notes = _rows_by_unit(units, folder / CHANGE_NAME)
        (folder / UNITS_NAME).write_text(csv_text(rows), encoding="utf-8")
        summary["units"], summary["notes"] = rows, [*summary["notes"], *notes]
    write_report(folder / REPORT_NAME, maps, folder / CHANGE_NAME, summary, language)
    summary["outputs"] = {path.name: record_of(path) for path in sorted(folder.iterdir())}
    write_json(folder / SUMMARY_NAME, sealed(summary))
    return summary


def _write_change(
    maps: tuple[FinishedMap, FinishedMap], folder: Path, settings: Mapping[str, Any]
) -> tuple[NDArray[np.int64], NDArray[np.float64], dict[str, int]]:
    """Write raster and polygons; return pixels and ground area per code, and patches per kind."""
    earlier, later = maps
    with open_raster(earlier.probability) as source:
        georef = GeoRef.of(source, earlier.probability)
    table = PixelTable.build(georef)
    pixels, areas = np.zeros(256, np.int64), np.zeros(256)
    tags = {
        "GEOFOREST_PRODUCT": "forest_change",
        "EARLIER": earlier.scene_id,
        "LATER": later.scene_id,
        "THRESHOLD": repr(settings["threshold"]),
        "MARGIN": repr(settings["margin"]),
        "TIFFTAG_SOFTWARE": f"geoforest {__version__}",
    }
    with ExitStack() as held:
        writer = held.enter_context(
            ClassWriter(folder / CHANGE_NAME, NAMES, COLOURS, georef=georef, tags=tags)
        )
        streams = {
            kind: held.enter_context(_polygon_stream(kind, maps, georef, folder, settings))
            for kind in _KINDS
        }
        for window, codes in _read_codes(maps, settings):
            writer.write(window, codes)
            sums = table.sums(codes, 256, at=(window.row_off, window.col_off))
            pixels += sums.pixels
            areas += sums.area
            for kind, code in _KINDS.items():
                mask = np.where(codes == code, FOREST, OTHER).astype(np.uint8)
                mask[codes == NO_OBSERVATION] = NO_OBSERVATION
                streams[kind].add(mask)
        writer.finish()
        write_geopackage(
            _frames(streams),
            folder / POLYGONS_NAME,
            layer=LAYER,
            style_qml=read_style("forest_change.qml"),
        )
        counts = {kind: stream.counts().patches for kind, stream in streams.items()}
    return pixels, areas, counts


def _polygon_stream(
    kind: str,
    maps: tuple[FinishedMap, FinishedMap],
    georef: GeoRef,
    folder: Path,
    settings: Mapping[str, Any],
) -> PolygonStream:
    earlier, later = maps
    return PolygonStream(
        georef,
        min_area_ha=settings["min_area_ha"],
        max_vertices=settings["max_vertices"],
        attributes={
            "change": kind,
            "date_from": earlier.acquired[:10],
            "date_to": later.acquired[:10],
            "model": later.model,
            "threshold": settings["threshold"],
            "margin": settings["margin"],
        },
        folder=folder,
    )


def _rows_by_unit(units: Units, raster: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return hectares of each kind of change per unit, and notes."""
    from geoforest.maps.units.areas import hectares_by_unit
    from geoforest.maps.units.zonal import open_mask

    touched, hectares, notes = hectares_by_unit([open_mask(raster)], units, list(NAMES))
    names = units.frame["unit"][touched]
    keys = [f"{name.replace(' ', '_')}_ha" for name in NAMES.values()]
    rows = [
        {"unit": unit, **{key: round(float(area), 4) for key, area in zip(keys, row, strict=True)}}
        for unit, row in zip(names, hectares, strict=True)
    ]
    return rows, notes


def _read_codes(
    maps: tuple[FinishedMap, FinishedMap], settings: Mapping[str, Any]
) -> Iterator[tuple[Any, NDArray[np.uint8]]]:
    threshold = settings["threshold"]
    strips = (read_strips(one.probability) for one in maps)
    try:
        for (window, was), (_, now) in zip(*strips, strict=True):
            yield (
                window,
                change_codes(
                    was, now, thresholds=(threshold, threshold), margin=settings["margin"]
                ),
            )
    except RasterioIOError as error:
        raise ReadError(f"{maps[0].folder}, {maps[1].folder}: cannot be read ({error})") from error


def _frames(streams: Mapping[str, PolygonStream]) -> Iterator[geopandas.GeoDataFrame]:
    for stream in streams.values():
        for frame in stream.frames():
            yield frame.drop(columns="mean_probability")


def _summary(
    maps: tuple[FinishedMap, FinishedMap],
    out: Path,
    settings: Mapping[str, Any],
    pixels: NDArray[np.int64],
    areas: NDArray[np.float64],
    counts: Mapping[str, int],
) -> dict[str, Any]:
    keys = {code: name.replace(" ", "_") for code, name in NAMES.items()}
    hectares = {key: round(float(areas[code]) / 1e4, 4) for code, key in keys.items()}
    before = hectares["stable_forest"] + hectares["loss"]
    notes = [
        f"{one.scene_id}: the time of acquisition is not known, so the order of the maps is as "
        "they were given"
        for one in maps
        if not one.acquired
    ]
    return {
        "geoforest": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "label": message("change of forest cover (model)"),
        **{
            date: {
                "scene_id": one.scene_id,
                "acquired": one.acquired or None,
                "folder": Path(os.path.relpath(one.folder.resolve(), out.resolve())).as_posix(),
            }
            for date, one in zip(("earlier", "later"), maps, strict=True)
        },
        "models": sorted({one.model for one in maps}),
        **settings,
        "pixels": {key: int(pixels[code]) for code, key in keys.items()},
        "hectares": hectares,
        "loss_percent_of_forest": round(100 * hectares["loss"] / before, 3) if before else None,
        "patches": dict(counts),
        "warnings": remarks_of(maps),
        "notes": notes,
    }
