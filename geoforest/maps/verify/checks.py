"""Checks that maps, mosaics and comparisons share."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from geoforest.arrays.stitch import mask_from_probability
from geoforest.errors import GeoforestWarning
from geoforest.io.cog import read_strips
from geoforest.io.names import JOB_NAME, MASK_NAME, PROBABILITY_NAME
from geoforest.io.recorded import state_of
from geoforest.io.sqlite import sha256_of_pages
from geoforest.types import FOREST, NO_OBSERVATION, OTHER, PROBABILITY_STEPS, Array

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence

    from geoforest.maps.destination import Location

_COUNTS: Final = {FOREST: "forest", OTHER: "other", NO_OBSERVATION: "no_observation"}
CHANGED_RECORD: Final = "was changed since it was written: its own checksum is another one"
Check = Literal["files", "layout", "grid", "codes", "ground", "polygons"]


@dataclass(frozen=True)
class Problem:
    """One problem of an output: which file, and what was found and wanted.

    Attributes
    ----------
    path
        File or folder with the problem.
    what
        Description for the user.
    check
        Kind of check that found it: ``files`` (present and unchanged), ``layout``
        (cloud-optimised), ``grid``, ``codes`` (values of mask and probability, and their
        agreement), ``ground`` (hectares of a mosaic, and of its maps), ``polygons``.
    """

    path: Location
    what: str
    check: Check

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def check_files(
    folder: Path, outputs: Mapping[str, Any], record: str = JOB_NAME
) -> Iterator[tuple[str, Problem]]:
    """Compare files with the checksums in a record; yield name and problem of each that differs."""
    for name, recorded in outputs.items():
        path = folder / name
        if name != Path(name).name or not path.is_file():
            yield name, Problem(path, f"missing, and {record} lists it", "files")
        elif not isinstance(recorded, dict):
            yield name, Problem(path, f"{record} has no checksum of it", "files")
        elif (state := state_of(path, recorded)) == "changed":
            what = f"changed: its checksum is not the one in {record}"
            if sha256_of_pages(path) == recorded.get("content_sha256"):
                what = f"changed: {name}-wal beside it holds edits, which {record} does not know"
            yield name, Problem(path, what, "files")
        elif state == "opened":
            warnings.warn(
                f"{path}: was opened by another program, content unchanged",
                GeoforestWarning,
                stacklevel=2,
            )


def check_codes(
    paths: Sequence[Path], recorded: Mapping[str, int], threshold: float, record: str
) -> Iterator[Problem]:
    """Check the codes of a mask, its agreement with its probability, and its recorded pixel counts.

    Parameters
    ----------
    paths
        Paths of mask, probability, or both, in one folder.
    recorded
        Recorded numbers of pixels: ``forest``, ``other`` and ``no_observation``.
    threshold
        Threshold of the mask, 0 to 1.
    record
        Name of the file with these numbers.
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
        if stored is not None and (strange := int(_invalid(stored).sum())):
            what = f"{strange} pixels of values other than 0 to 250 and 255"
            yield Problem(paths[-1], what, "codes")
    if disagreeing:
        what = f"mask and probability disagree in {disagreeing} pixels at {threshold:g}"
        yield Problem(folder, what, "codes")
    for code, name in _COUNTS.items():
        if counts[code] != recorded[name]:
            yield Problem(
                folder / record,
                f"says {recorded[name]} pixels {name}, the mask has {counts[code]}",
                "codes",
            )


def _invalid(stored: Array) -> Array:
    invalid: Array = (stored > PROBABILITY_STEPS) & (stored != NO_OBSERVATION)
    return invalid


def check_database(path: Path, database: sqlite3.Connection) -> Iterator[Problem]:
    """Check the integrity of a GeoPackage as an SQLite database."""
    found = [row[0] for row in database.execute("PRAGMA integrity_check")]
    if found != ["ok"]:
        yield Problem(path, f"is damaged as a database ({found[0]})", "polygons")
