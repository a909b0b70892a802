"""Check that a map is complete and unchanged, and that its files agree with each other."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rasterio.errors import RasterioError

from geoforest.errors import InputError
from geoforest.io.geopackage import LAYER
from geoforest.io.locks import is_locked
from geoforest.io.names import (
    JOB_NAME,
    MASK_NAME,
    POLYGONS_NAME,
    PROBABILITY_NAME,
    SUMMARY_NAME,
    WORK_NAME,
)
from geoforest.io.raster import open_raster
from geoforest.io.sqlite import read_database
from geoforest.io.storage import is_sealed, is_unchanged, read_json
from geoforest.maps.finished import fetch_map
from geoforest.maps.verify.checks import (
    CHANGED_RECORD,
    Problem,
    check_codes,
    check_database,
    check_files,
)

if TYPE_CHECKING:
    import os

    from geoforest.maps.destination import Destination
    from geoforest.scenes.scene import Scene

_Problems = Iterator["Problem"]


def verify_grid(folder: str | os.PathLike[str], scene: Scene) -> list[Problem]:
    """Check that the rasters of a map have exactly the grid of its scene.

    Parameters
    ----------
    folder
        Output folder ``OUT/<scene id>``, on disk.
    scene
        Scene that was mapped; see :func:`geoforest.scenes.open.open_scene`.

    Returns
    -------
    list of Problem
        Problems of the check ``grid``; empty when there are none.
    """
    problems = []
    for name in (MASK_NAME, PROBABILITY_NAME):
        path = Path(folder) / name
        try:
            with open_raster(path) as source:
                found = source.shape, source.crs, source.transform
        except RasterioError as error:
            problems.append(Problem(path, f"cannot be read ({error})", "grid"))
            continue
        wanted = scene.shape, scene.crs, scene.transform
        for what, one, other in zip(("shape", "CRS", "transform"), found, wanted, strict=True):
            if one != other:
                text = f"{what} {one!r}, {other!r} of the scene was wanted"
                problems.append(Problem(path, text, "grid"))
    return problems


def verify_destination(destination: Destination) -> _Problems:
    """Check one map; outputs in a bucket are fetched into a temporary folder."""
    if isinstance(destination.location, Path):
        yield from _verify_job(destination.location)
        return
    with TemporaryDirectory(prefix="geoforest-verify-") as name:
        folder = Path(name)
        fetch_map(destination.location, folder)
        for problem in _verify_job(folder):
            assert isinstance(problem.path, Path)
            inside = problem.path.relative_to(folder)
            yield Problem(
                destination.location / inside.name if inside.name else destination.location,
                problem.what,
                problem.check,
            )


def _verify_job(folder: Path) -> _Problems:
    job = read_json(folder / JOB_NAME)
    outputs = job.get("outputs") if job else None
    if job is None or not isinstance(outputs, dict):
        what = "unfinished: the same command of geoforest map goes on from what is done"
        if is_locked(folder / WORK_NAME):
            what = "unfinished: geoforest map is still at work on it"
        elif job is not None and "fingerprint" in job and not is_sealed(job):
            pass  # the record of work that was begun
        elif (folder / JOB_NAME).exists():
            what = f"{JOB_NAME} is damaged: nothing says what belongs here"
        yield Problem(folder, what, "files")
        return
    if not is_unchanged(job):
        yield Problem(folder / JOB_NAME, CHANGED_RECORD, "files")
    broken = dict(check_files(folder, outputs))
    yield from broken.values()
    whole = {name for name in outputs if name not in broken}
    summary = read_json(folder / SUMMARY_NAME) or {}
    try:
        if {MASK_NAME, PROBABILITY_NAME} & whole:
            yield from _rasters(folder, whole, summary, float(job["threshold"]))
        if POLYGONS_NAME in whole:
            yield from _polygons(folder / POLYGONS_NAME, summary)
    except (KeyError, TypeError, ValueError) as error:
        what = f"{JOB_NAME} or {SUMMARY_NAME} lacks something ({error!r})"
        yield Problem(folder, what, "files")


def _rasters(folder: Path, names: set[str], summary: dict[str, Any], threshold: float) -> _Problems:
    paths = [folder / name for name in (MASK_NAME, PROBABILITY_NAME) if name in names]
    for path in paths:
        yield from _layout(path, summary)
    yield from check_codes(paths, summary["pixels"], threshold, SUMMARY_NAME)


def _layout(path: Path, summary: dict[str, Any]) -> _Problems:
    try:
        with open_raster(path) as source:
            if source.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") != "COG":
                yield Problem(path, "is no longer a cloud-optimised GeoTIFF", "layout")
            if list(source.shape) != list(summary["shape"]):
                what = f"shape {source.shape}, {summary['shape']} was wanted"
                yield Problem(path, what, "grid")
            if source.crs is None or source.crs.to_string() != summary["crs"]:
                what = f"CRS {source.crs}, {summary['crs']} was wanted"
                yield Problem(path, what, "grid")
    except RasterioError as error:
        yield Problem(path, f"cannot be read ({error})", "layout")


def _polygons(path: Path, summary: dict[str, Any]) -> _Problems:
    recorded = summary["polygons"]
    if (
        recorded["polygon_px"]
        != recorded["mask_px"] - recorded["dropped_px"] + recorded["filled_px"]
    ):
        what = f"polygon pixels do not add up: {recorded}"
        yield Problem(path.with_name(SUMMARY_NAME), what, "polygons")
    if recorded["mask_px"] != summary["pixels"]["forest"]:
        yield Problem(
            path.with_name(SUMMARY_NAME),
            f"polygons are of {recorded['mask_px']} forest pixels, "
            f"{summary['pixels']['forest']} were wanted",
            "polygons",
        )
    try:
        with read_database(path) as database:
            yield from check_database(path, database)
            parts, pixels, patches = database.execute(
                "SELECT count(*), coalesce(sum(n_pixels), 0), count(DISTINCT patch_id) "
                f'FROM "{LAYER}"'
            ).fetchone()
            indexed = database.execute(f'SELECT count(*) FROM "rtree_{LAYER}_geom"').fetchone()[0]
            styled = database.execute("SELECT count(*) FROM layer_styles").fetchone()[0]
    except (InputError, sqlite3.Error) as error:
        yield Problem(path, f"is not a GeoPackage of geoforest ({error})", "polygons")
        return
    wanted = {"parts": parts, "polygon_px": pixels, "patches": patches}
    for name, value in wanted.items():
        if recorded[name] != value:
            what = f"{name} is {value}, {recorded[name]} was wanted by {SUMMARY_NAME}"
            yield Problem(path, what, "polygons")
    if indexed != parts:
        what = f"its spatial index has {indexed} of {parts} polygons"
        yield Problem(path, what, "polygons")
    if styled != 1:
        yield Problem(path, "its default style is missing", "polygons")
