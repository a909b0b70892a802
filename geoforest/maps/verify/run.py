"""Whether outputs are complete and untouched, and agree with each other."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import rasterio
from rasterio.errors import RasterioError

from geoforest.arrays.stitch import mask_from_probability
from geoforest.errors import InputError
from geoforest.io.cog import read_strips
from geoforest.io.geopackage import LAYER
from geoforest.io.names import (
    JOB_NAME,
    MASK_NAME,
    POLYGONS_NAME,
    PROBABILITY_NAME,
    SUMMARY_NAME,
)
from geoforest.io.remote import shown
from geoforest.io.storage import file_sha256, read_json
from geoforest.maps.destination import Location, Target, jobs_in
from geoforest.maps.finished import fetch_map
from geoforest.types import FOREST, NO_OBSERVATION, OTHER, PROBABILITY_STEPS, Array

if TYPE_CHECKING:
    from geoforest.scenes.scene import Scene

_COUNTS: Final = {FOREST: "forest", OTHER: "other", NO_OBSERVATION: "no_observation"}
_Problems = Iterator["Problem"]
Check = Literal["files", "layout", "grid", "codes", "polygons"]


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it should be: which file, and what was found and wanted.

    Attributes
    ----------
    path
    what
    check
        What was looked at: ``files`` (there and untouched), ``layout`` (cloud-optimised), ``grid``,
        ``codes`` (the three states, and mask against probability), ``polygons``.
    """

    path: Location
    what: str
    check: Check

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def verify(folder: str | os.PathLike[str]) -> list[Problem]:
    """Check the outputs of one map job, of all those in a folder, of a mosaic or a comparison.

    Checksums, the grid and codes of the rasters, their layout, mask against probability, the
    GeoPackage's integrity, and polygon pixels = mask pixels - dropped + filled. Pixels are read in
    strips, so that memory does not grow with the scene. Outputs in a bucket are fetched, one job
    at a time, into a temporary folder.

    Parameters
    ----------
    folder
        ``OUT/<scene id>``, or ``OUT``; for mosaics and comparisons, which have to be on disk, see
        :mod:`geoforest.maps.verify.mosaics`.

    Returns
    -------
    list of Problem
        Empty when all is well.

    Raises
    ------
    InputError
        When there are no outputs of geoforest in the folder.
    """
    text = os.fspath(folder)
    if "://" not in text and not Path(text).is_dir():
        raise InputError(f"{text}: no such folder")
    if "://" not in text:
        from geoforest.maps.verify.mosaics import verify_other

        if (problems := verify_other(Path(text))) is not None:
            return problems
    jobs = jobs_in(text)
    if not jobs:
        raise InputError(
            f"{shown(text)}: holds no outputs of geoforest ({JOB_NAME} of a map, or what a mosaic "
            "or a comparison leaves, was wanted)"
        )
    return [problem for job in jobs for problem in _verify_target(job)]


def verify_grid(folder: str | os.PathLike[str], scene: Scene) -> list[Problem]:
    """Check that the rasters of a map lie on exactly the grid of its scene.

    Parameters
    ----------
    folder
        ``OUT/<scene id>``, on disk.
    scene
        See :func:`geoforest.scenes.open.open_scene`.

    Returns
    -------
    list of Problem
        Empty when all is well; of ``grid`` all.
    """
    problems = []
    for name in (MASK_NAME, PROBABILITY_NAME):
        path = Path(folder) / name
        try:
            with rasterio.open(path) as source:
                found = source.shape, source.crs, source.transform
        except RasterioError as error:
            problems.append(Problem(path, f"cannot be read ({error})", "grid"))
            continue
        wanted = scene.shape, scene.crs, scene.transform
        for what, one, other in zip(("shape", "CRS", "transform"), found, wanted, strict=True):
            if one != other:
                what = f"{what} {one!r}, {other!r} of the scene was wanted"
                problems.append(Problem(path, what, "grid"))
    return problems


def _verify_target(target: Target) -> _Problems:
    if isinstance(target.location, Path):
        yield from _verify_job(target.location)
        return
    with TemporaryDirectory(prefix="geoforest-verify-") as name:
        folder = Path(name)
        fetch_map(target.location, folder)
        for problem in _verify_job(folder):
            assert isinstance(problem.path, Path)
            inside = problem.path.relative_to(folder)
            yield Problem(
                target.location / inside.name if inside.name else target.location,
                problem.what,
                problem.check,
            )


def _verify_job(folder: Path) -> _Problems:
    job = read_json(folder / JOB_NAME)
    outputs = job.get("outputs") if job else None
    if job is None or not isinstance(outputs, dict):
        what = "unfinished: the same command of geoforest map goes on from what is done"
        if (folder / JOB_NAME).exists():
            what = f"{JOB_NAME} is damaged: nothing says what belongs here"
        yield Problem(folder, what, "files")
        return
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


def check_files(
    folder: Path, outputs: Mapping[str, Any], record: str = JOB_NAME
) -> Iterator[tuple[str, Problem]]:
    """Hold the files of a folder, by name, against the checksums that a record has of them."""
    for name, recorded in outputs.items():
        path = folder / name
        if name != Path(name).name or not path.is_file():
            yield name, Problem(path, f"missing, and {record} lists it", "files")
        elif file_sha256(path) != recorded.get("sha256"):
            what = f"changed: its checksum is not the one in {record}"
            yield name, Problem(path, what, "files")


def _rasters(folder: Path, names: set[str], summary: dict[str, Any], threshold: float) -> _Problems:
    paths = [folder / name for name in (MASK_NAME, PROBABILITY_NAME) if name in names]
    for path in paths:
        yield from _layout(path, summary)
    yield from check_codes(paths, summary["pixels"], threshold, SUMMARY_NAME)


def check_codes(
    paths: Sequence[Path], told: Mapping[str, int], threshold: float, record: str
) -> Iterator[Problem]:
    """Count the codes of a mask, hold it against its probability, and against what a record says.

    Parameters
    ----------
    paths
        Mask, probability, or both; of one folder.
    told
        Pixels ``forest``, ``other`` and ``no_observation``.
    threshold
        Of the mask.
    record
        Name of the file that says so.
    """
    folder = paths[0].parent
    counts: dict[int, int] = dict.fromkeys(_COUNTS, 0)
    disagreeing = 0
    for strips in zip(*map(read_strips, paths), strict=True):
        values = {path.name: pixels for path, (_, pixels) in zip(paths, strips, strict=True)}
        mask, stored = values.get(MASK_NAME), values.get(PROBABILITY_NAME)
        made = None if stored is None else mask_from_probability(stored, threshold)
        if mask is None:
            mask = made
        assert mask is not None
        if made is not None:
            disagreeing += int((mask != made).sum())
        found = np.bincount(mask.ravel(), minlength=256)
        counts = {code: counts[code] + int(found[code]) for code in counts}
        if strange := int(found.sum()) - sum(int(found[code]) for code in counts):
            yield Problem(paths[0], f"{strange} pixels of codes other than 0, 1 and 255", "codes")
        if stored is not None and (strange := int(_strange(stored).sum())):
            what = f"{strange} pixels of values other than 0 to 250 and 255"
            yield Problem(paths[-1], what, "codes")
    if disagreeing:
        what = f"mask and probability disagree in {disagreeing} pixels at {threshold:g}"
        yield Problem(folder, what, "codes")
    for code, name in _COUNTS.items():
        if counts[code] != told[name]:
            yield Problem(
                folder / record,
                f"says {told[name]} pixels {name}, the mask has {counts[code]}",
                "codes",
            )


def _strange(stored: Array) -> Array:
    return (stored > PROBABILITY_STEPS) & (stored != NO_OBSERVATION)


def _layout(path: Path, summary: dict[str, Any]) -> _Problems:
    try:
        with rasterio.open(path) as source:
            if source.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") != "COG":
                yield Problem(path, "is no cloud-optimised GeoTIFF any more", "layout")
            if list(source.shape) != list(summary["shape"]):
                what = f"shape {source.shape}, {summary['shape']} was wanted"
                yield Problem(path, what, "grid")
            if source.crs is None or source.crs.to_string() != summary["crs"]:
                what = f"CRS {source.crs}, {summary['crs']} was wanted"
                yield Problem(path, what, "grid")
    except RasterioError as error:
        yield Problem(path, f"cannot be read ({error})", "layout")


def check_database(path: Path, database: sqlite3.Connection) -> Iterator[Problem]:
    """Let SQLite check a GeoPackage."""
    found = [row[0] for row in database.execute("PRAGMA integrity_check")]
    if found != ["ok"]:
        yield Problem(path, f"is damaged as a database ({found[0]})", "polygons")


def _polygons(path: Path, summary: dict[str, Any]) -> _Problems:
    told = summary["polygons"]
    if told["polygon_px"] != told["mask_px"] - told["dropped_px"] + told["filled_px"]:
        what = f"polygon pixels do not add up: {told}"
        yield Problem(path.with_name(SUMMARY_NAME), what, "polygons")
    if told["mask_px"] != summary["pixels"]["forest"]:
        yield Problem(
            path.with_name(SUMMARY_NAME),
            f"polygons are of {told['mask_px']} forest pixels, {summary['pixels']['forest']} were "
            "wanted",
            "polygons",
        )
    try:
        read_only = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(read_only, uri=True)) as database:
            yield from check_database(path, database)
            parts, pixels, patches = database.execute(
                "SELECT count(*), coalesce(sum(n_pixels), 0), count(DISTINCT patch_id) "
                f'FROM "{LAYER}"'
            ).fetchone()
            indexed = database.execute(f'SELECT count(*) FROM "rtree_{LAYER}_geom"').fetchone()[0]
            styled = database.execute("SELECT count(*) FROM layer_styles").fetchone()[0]
    except sqlite3.Error as error:
        yield Problem(path, f"is no GeoPackage of ours ({error})", "polygons")
        return
    wanted = {"parts": parts, "polygon_px": pixels, "patches": patches}
    for name, value in wanted.items():
        if told[name] != value:
            what = f"{name} is {value}, {told[name]} was wanted by {SUMMARY_NAME}"
            yield Problem(path, what, "polygons")
    if indexed != parts:
        what = f"its spatial index has {indexed} of {parts} polygons"
        yield Problem(path, what, "polygons")
    if styled != 1:
        yield Problem(path, "its default style is missing", "polygons")
