"""Fetch the four-band Amazon set of Bragagnolo et al. 2021 into folders for training."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from geoforest.errors import DataError, FetchError, OutputError
from geoforest.io.download import RETRIES, RemoteFile, download, fetch_json
from geoforest.io.files import open_place, without_secrets
from geoforest.io.locks import exclusive_lock
from geoforest.io.storage import read_json, writable, write_json
from geoforest.train.archive import require_libarchive, unpack_rar
from geoforest.train.chips import find_pairs
from geoforest.types import Progress, quiet

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORD_URL: Final = "https://zenodo.org/api/records/4498086"
MANIFEST_NAME: Final = "manifest.json"
_ABOUT: Final = {
    "title": "Amazon and Atlantic Forest image datasets for semantic segmentation (Amazon part)",
    "authors": "Bragagnolo, L., da Silva, R. V., Grzybowski, J. M. V. (2021)",
    "doi": "10.5281/zenodo.4498086",
    "licence": "CC BY 4.0",
}
_ARCHIVE_NAME: Final = "AMAZON.rar"
_WORK_NAME: Final = ".fetch"
_STAGED_NAME: Final = "set"
_SPLITS: Final = {"training": "train", "validation": "validation", "test": "test"}
_KINDS: Final = {
    **dict.fromkeys(("image", "images"), "images"),
    **dict.fromkeys(("label", "labels", "mask", "masks"), "masks"),
}
# Printable and not hidden, without characters that are special to a shell or a browser.
_CHIP_NAME: Final = re.compile(r"\w[\w .()+-]*\.tiff?", re.IGNORECASE)


@dataclass(frozen=True)
class Fetched:
    """A complete set on disk.

    Attributes
    ----------
    folder
        Folder with ``train``, ``validation``, ``test`` and ``manifest.json``.
    chips
        Number of chips per split.
    already
        Whether an earlier run had fetched the set.
    """

    folder: Path
    chips: dict[str, int]
    already: bool


def fetch_amazon(
    out: str | Path,
    *,
    record_url: str = RECORD_URL,
    retries: int = RETRIES,
    progress: Progress = quiet,
) -> Fetched:
    """Download, verify, unpack and arrange the set; resume a run that was killed.

    Parameters
    ----------
    out
        Folder for the set; created when absent.
    record_url
        URL of Zenodo's JSON of the record.
    retries
        Attempts without a new byte, at growing intervals, before the download fails.
    progress
        Called with ``"download"``, bytes so far and their total.

    Raises
    ------
    FetchError
        When the record or the archive cannot be downloaded, or its checksum does not match.
    DataError
        When the archive is damaged or does not hold the expected chips.
    WriteError
        When the disk is full.
    OutputError
        When ``out`` cannot be written to, is too small, holds something else, or is in use.
    InputError
        When libarchive is absent, or the URL is not ``http`` or ``https``.
    """
    out = Path(out)
    manifest = _complete_manifest(out)
    if manifest is not None:
        return Fetched(out, _chips_by_split(manifest), already=True)
    # Checked before hours of download.
    require_libarchive()
    with _locked_work_folder(out) as work:
        if not (work / MANIFEST_NAME).exists():
            _refuse_other_data(out)
            remote = _find_archive(record_url, retries)
            archive = work / f"{_ARCHIVE_NAME}.partial"
            download(remote, archive, retries=retries, progress=progress)
            _stage(archive, work, _origin(record_url, remote))
        manifest = _publish(work, out)
    return Fetched(out, _chips_by_split(manifest), already=False)


def _complete_manifest(out: Path) -> dict[str, Any] | None:
    """Return the manifest of a complete set; None when there is no manifest."""
    manifest = read_json(out / MANIFEST_NAME)
    if manifest is None:
        return None
    if manifest.get("doi") != _ABOUT["doi"]:
        raise OutputError(
            f"{out / MANIFEST_NAME}: describes another data set; choose another --out"
        )
    _check_complete(out, manifest)
    # A run that was killed while it cleaned up leaves its work folder.
    shutil.rmtree(out / _WORK_NAME, ignore_errors=True)
    return manifest


def _check_complete(out: Path, manifest: dict[str, Any]) -> None:
    """Refuse a set whose files are missing or have another size than in its manifest."""
    for name, recorded in manifest["files"].items():
        path = out / name
        if not path.is_file() or path.stat().st_size != recorded["bytes"]:
            raise OutputError(
                f"{path}: is missing or changed, and {MANIFEST_NAME} lists it; delete {out} and "
                "fetch it again, or choose another --out"
            )


def _chips_by_split(manifest: dict[str, Any]) -> dict[str, int]:
    return {
        split: sum(name.startswith(f"{split}/images/") for name in manifest["files"])
        for split in _SPLITS.values()
    }


@contextmanager
def _locked_work_folder(out: Path) -> Iterator[Path]:
    """Lock the work folder in ``out``; remove it after success, or when it is empty."""
    work = out / _WORK_NAME
    with writable(out):
        work.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(work):
        try:
            yield work
        except BaseException:
            if [path.name for path in work.iterdir()] == ["lock"]:
                shutil.rmtree(work)
                if not any(out.iterdir()):
                    out.rmdir()
            raise
        shutil.rmtree(work)


def _refuse_other_data(out: Path) -> None:
    for split in _SPLITS.values():
        if (out / split).exists():
            raise OutputError(
                f"{out / split}: is there already, and no {MANIFEST_NAME} says what it is; choose "
                "another --out"
            )


def _find_archive(record_url: str, retries: int) -> RemoteFile:
    record = fetch_json(record_url, retries=retries)
    try:
        entry = next(file for file in record["files"] if file["key"] == _ARCHIVE_NAME)
        size, checksum = entry.get("size"), entry.get("checksum")
        return RemoteFile(
            str(entry["links"]["self"]),
            size=None if size is None else int(size),
            checksum=None if checksum is None else str(checksum),
        )
    except (StopIteration, KeyError, TypeError, ValueError, AttributeError) as error:
        raise FetchError(
            f"{without_secrets(record_url)}: no record of Zenodo with a file {_ARCHIVE_NAME}"
        ) from error


def _origin(record_url: str, remote: RemoteFile) -> dict[str, Any]:
    return {
        **_ABOUT,
        "record": without_secrets(record_url),
        "archive": {"url": str(remote), "bytes": remote.size, "checksum": remote.checksum},
        "fetched": datetime.now(UTC).date().isoformat(),
    }


def _stage(archive: Path, work: Path, origin: dict[str, Any]) -> None:
    """Unpack into the work folder, check the pairs, and write the manifest last."""
    staged = work / _STAGED_NAME
    # A run that was killed while it unpacked leaves part of the set.
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    try:
        files = unpack_rar(archive, staged, _path_in_set)
        for split in _SPLITS.values():
            _, faults = find_pairs(open_place(staged) / split)
            for fault in faults:
                raise DataError(f"{archive}: unpacked {fault.where}: {fault.what}")
    except BaseException:
        shutil.rmtree(staged)
        raise
    document = {**origin, "files": {name: asdict(files[name]) for name in sorted(files)}}
    write_json(work / MANIFEST_NAME, document)


def _path_in_set(name: str) -> str | None:
    """Return the path in the set of a file of the archive; None for a file that is not a chip.

    Examples
    --------
    >>> _path_in_set("AMAZON/Training/label/Amazon_1.tif"), _path_in_set("AMAZON/readme.txt")
    ('train/masks/Amazon_1.tif', None)
    """
    parts = name.split("/")
    if len(parts) != 4 or parts[0].lower() != "amazon" or not _CHIP_NAME.fullmatch(parts[3]):
        return None
    split, kind = _SPLITS.get(parts[1].lower()), _KINDS.get(parts[2].lower())
    return f"{split}/{kind}/{parts[3]}" if split and kind else None


def _publish(work: Path, out: Path) -> dict[str, Any]:
    """Move the staged set into place; the manifest goes last and marks it as complete.

    The next run finishes what a run killed here has left.
    """
    manifest: dict[str, Any] = json.loads((work / MANIFEST_NAME).read_text(encoding="utf-8"))
    for split in _SPLITS.values():
        staged = work / _STAGED_NAME / split
        if staged.exists():
            staged.replace(out / split)
    _check_complete(out, manifest)
    (work / MANIFEST_NAME).replace(out / MANIFEST_NAME)
    return manifest
