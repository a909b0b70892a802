"""Read finished maps, from which mosaics, comparisons and samples are made."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rasterio.errors import RasterioIOError

from geoforest.errors import InputError
from geoforest.io.locks import exclusive_lock
from geoforest.io.names import JOB_NAME, MASK_NAME, PROBABILITY_NAME, SUMMARY_NAME
from geoforest.io.raster import open_raster
from geoforest.io.storage import (
    file_sha256,
    read_json,
    require_space,
    write_durably,
)
from geoforest.scenes.coding import read_type
from geoforest.scenes.scene import BandSource, Scene

_NAMED_SCENES = 3
# Baseline and tile in a name such as S2B_MSIL2A_20240704T140709_N0510_R110_T20LMR_20240704T190000.
_PRODUCT = re.compile(r"_N(\d{4})_R\d{3}_T(\d\d[A-Z]{3})(?=_|$)")

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geoforest.io.files import Place


@dataclass(frozen=True)
class FinishedMap:
    """Output of ``geoforest map`` in a folder.

    Attributes
    ----------
    folder
        Absolute path.
    scene_id
        Id of the scene that was mapped.
    sha256
        Checksum of the product asked for, by default the stored probability.
    acquired
        ISO time of acquisition; empty when unknown.
    observed_percent
        Share of its pixels that were observed, 0 to 100.
    model, threshold
        Id of the model, and the threshold of the mask, 0 to 1.
    tile, baseline
        MGRS tile and processing baseline of the product; empty when unknown.
    warnings, notes
        Sentences that the user of the map was told, the warnings of failed checks first.
    """

    folder: Path
    scene_id: str
    sha256: str
    acquired: str
    observed_percent: float
    model: str
    threshold: float
    tile: str = ""
    baseline: str = ""
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def probability(self) -> Path:
        """Path of the stored probability."""
        return self.folder / PROBABILITY_NAME

    @property
    def mask(self) -> Path:
        """Path of the mask."""
        return self.folder / MASK_NAME


def read_finished(folder: str | Path, product: str = PROBABILITY_NAME) -> FinishedMap:
    """Read what ``geoforest map`` recorded of its output in a folder.

    Parameters
    ----------
    folder
        Output folder of one scene.
    product
        Name of the file that must be there.

    Raises
    ------
    InputError
        When the folder holds no finished map with that product, or the size of the product
        has changed since.
    """
    folder = Path(folder)
    try:
        return _read_records(folder, product)
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder}: its {JOB_NAME} or {SUMMARY_NAME} is damaged, or of another version "
            f"({error!r}); an output folder of geoforest map was wanted"
        ) from error


def _read_records(folder: Path, product: str) -> FinishedMap:
    job, summary = read_json(folder / JOB_NAME), read_json(folder / SUMMARY_NAME)
    if job is None or summary is None:
        missing = JOB_NAME if job is None else SUMMARY_NAME
        raise InputError(
            f"{folder}: no finished map, as {missing} is not there or damaged; an output folder of "
            "geoforest map was wanted"
        )
    if product not in job.get("outputs", {}):
        raise InputError(
            f"{folder}: no finished map with {product}; an output folder of geoforest map "
            "was wanted"
        )
    recorded, path = job["outputs"][product], folder / product
    if not path.is_file() or path.stat().st_size != recorded["bytes"]:
        raise InputError(f"{path}: is not the file that {JOB_NAME} names; see geoforest verify")
    tile, baseline = _product_of(job["scene_id"], summary.get("source") or {})
    return FinishedMap(
        folder=folder.absolute(),
        scene_id=job["scene_id"],
        sha256=recorded["sha256"],
        acquired=summary["acquired"] or "",
        observed_percent=summary["observed_percent"],
        model=job["model"],
        threshold=job["threshold"],
        tile=tile,
        baseline=baseline,
        warnings=_warnings_of(job["scene_id"], summary),
        notes=tuple(map(str, summary.get("notes") or ())),
    )


def _product_of(scene_id: str, source: dict[str, Any]) -> tuple[str, str]:
    """Return MGRS tile and processing baseline, from the product's metadata or its name."""
    named = _PRODUCT.search(scene_id)
    tile = source.get("mgrs_tile") or (named[2] if named else "")
    stated = source.get("processing_baseline")
    if not stated:
        stated = int(named[1]) / 100 if named else None
    try:
        baseline = "" if stated is None else f"{float(stated):05.2f}"
    except ValueError:
        baseline = ""
    return str(tile).removeprefix("T"), baseline


def _warnings_of(scene_id: str, summary: dict[str, Any]) -> tuple[str, ...]:
    """Return the warnings of a map; older summaries have those of failed checks elsewhere."""
    verdicts = (summary.get("quality") or {}).get("verdicts", [])
    failed = [f"{scene_id}: {one['sentence']}" for one in verdicts if one["passed"] is False]
    # The same sentence is told once.
    return tuple(dict.fromkeys([*failed, *map(str, summary.get("warnings") or ())]))


def remarks_of(maps: Sequence[FinishedMap]) -> list[str]:
    """Return warnings and notes of maps, warnings first.

    What more than three maps have in common is one sentence, which names three of them.

    Examples
    --------
    >>> remarks_of([])
    []
    """
    found: list[str] = []
    for kind in ("warnings", "notes"):
        scenes: dict[str, dict[str, str]] = {}
        for one in maps:
            for sentence in getattr(one, kind):
                scenes.setdefault(_without_subject(sentence, one.scene_id), {})[one.scene_id] = (
                    sentence
                )
        for said, sentences in sorted(scenes.items()):
            if len(sentences) > _NAMED_SCENES:
                some = ", ".join(sorted(sentences)[:_NAMED_SCENES])
                found.append(f"{len(sentences):,} maps ({some}, ...): {said}")
            else:
                found += sorted(set(sentences.values()))
    return found


def _without_subject(sentence: str, scene_id: str) -> str:
    """Return a sentence without the scene or file that it begins with."""
    subject, _, said = sentence.partition(": ")
    return said if said and (subject == scene_id or "/" in subject) else sentence


def fetch_map(place: Place, folder: Path) -> None:
    """Fetch a finished map from a bucket: ``job.json`` and the files it lists, if they exist.

    Files already in the folder with the recorded checksum are not fetched again. ``job.json`` is
    written last: without it a folder is not a finished map.

    Parameters
    ----------
    place
        Output folder of ``geoforest map`` in a bucket.
    folder
        Folder on disk; created when it does not exist.

    Raises
    ------
    DataError
        When a file in the bucket cannot be read.
    WriteError
        When the disk has too little room.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(folder, wait=True):
        found = place.files()
        # An interrupted fetch must not leave a folder that looks finished.
        (folder / JOB_NAME).unlink(missing_ok=True)
        if JOB_NAME not in found:
            return
        job = (place / JOB_NAME).read()
        outputs = _recorded_outputs(job)
        names = [
            name
            for name, recorded in outputs.items()
            if name in found and not _is_intact(folder / name, recorded)
        ]
        require_space(folder, sum(int(found[name]["size"]) for name in names))
        for name in names:
            partial = folder / f".{name}.partial"
            (place / name).get(partial)
            partial.replace(folder / name)
        write_durably(folder / JOB_NAME, job)


def _recorded_outputs(job: bytes) -> dict[str, Any]:
    try:
        outputs = json.loads(job)["outputs"]
    except (ValueError, KeyError, TypeError):
        return {}
    return outputs if isinstance(outputs, dict) else {}


def _is_intact(path: Path, recorded: dict[str, Any]) -> bool:
    return path.is_file() and file_sha256(path) == recorded.get("sha256")


def recorded_scene(finished: FinishedMap) -> Scene | None:
    """Return the scene that a map was made from, if its files are on disk unchanged.

    Returns
    -------
    Scene or None
        None when a file is missing, was changed, or lies on a server.

    Raises
    ------
    InputError
        When the map cannot be read.
    """
    identity = (read_json(finished.folder / JOB_NAME) or {}).get("identity", {})
    try:
        files = tuple((str(name), int(size), stamp) for name, size, stamp in identity["files"])
        bands = tuple(BandSource(*band) for band in identity["bands"])
        scale, offset = (tuple(map(float, identity[key])) for key in ("scale", "offset"))
        zero_is_nodata = bool(identity["zero_is_nodata"])
        # Absent in maps of versions before 0.2.
        _, saturated = identity.get("observed_rules", (1, None))
    except (KeyError, TypeError, ValueError):
        return None
    # For safety, open a path named in job.json only if it is the file that was mapped.
    if not files or not all(_is_unchanged(*one) for one in files):
        return None
    names = [name for name, *_ in files]
    if not all(_lies_in(band.path, names) for band in bands):
        return None
    try:
        with open_raster(finished.probability) as source:
            crs, transform, shape = source.crs, source.transform, source.shape
        with open_raster(bands[0].path) as source:
            stored = source.dtypes[bands[0].index - 1]
    except RasterioIOError as error:
        raise InputError(f"{finished.folder}: cannot be read ({error})") from error
    return Scene(
        scene_id=finished.scene_id,
        bands=bands,
        crs=crs,
        transform=transform,
        shape=shape,
        dtype=read_type(stored) or stored,
        scale=scale,
        offset=offset,
        zero_is_nodata=zero_is_nodata,
        saturated=saturated,
        files=files,
    )


def _is_unchanged(name: str, size: int, stamp: int | str) -> bool:
    try:
        found = Path(name).stat()
    except OSError:
        return False
    return (found.st_size, found.st_mtime_ns) == (size, stamp)


def _lies_in(path: str, names: Sequence[str]) -> bool:
    """Check whether a path is one of the files, or lies in one that is a zip archive."""
    return any(path == name or path.startswith(f"/vsizip/{name}/") for name in names)
