"""The output folder of a job: locked, refused to other jobs, and published in one step."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoforest.errors import OutputError
from geoforest.io.locks import exclusive_lock
from geoforest.io.names import (
    JOB_NAME,
    MASK_NAME,
    POLYGONS_NAME,
    PROBABILITY_NAME,
    PROJECT_NAME,
    QUICKLOOK_NAME,
    REPORT_NAME,
    SUMMARY_NAME,
    UNITS_NAME,
    style_name,
)
from geoforest.io.recorded import name_for_edited, record_of
from geoforest.io.sqlite import journals
from geoforest.io.storage import flush, read_json, sealed
from geoforest.pipeline.shard_store import ShardStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from geoforest.maps.destination import Destination

_MARKS = (
    MASK_NAME,
    f"{MASK_NAME}.aux.xml",
    style_name(MASK_NAME),
    PROBABILITY_NAME,
    style_name(PROBABILITY_NAME),
    POLYGONS_NAME,
    SUMMARY_NAME,
    REPORT_NAME,
    QUICKLOOK_NAME,
    style_name(QUICKLOOK_NAME),
    PROJECT_NAME,
    UNITS_NAME,
)


@dataclass(frozen=True)
class Earlier:
    """Records of earlier runs in an output folder, read once while the folder is locked.

    Attributes
    ----------
    work
        ``job.json`` of unfinished work, or of products that were being published.
    published
        ``job.json`` of finished products.
    """

    work: dict[str, Any] | None = None
    published: dict[str, Any] | None = None

    @property
    def documents(self) -> list[dict[str, Any]]:
        """Records that exist, that of unfinished work first."""
        return [document for document in (self.work, self.published) if document is not None]

    def of_job(self, fingerprint: str) -> dict[str, Any] | None:
        """Return the record of a run of a job that has made products, or None.

        A run that was killed while it published has left it in the work folder.
        """
        for document in (self.published, self.work):
            if document is None or document.get("fingerprint") != fingerprint:
                continue
            if isinstance(document.get("outputs"), dict):
                return document
        return None


class Workspace:
    """The output folder of a scene, held for one run until its products are published.

    Attributes
    ----------
    destination
        Where products go, ``OUT/<scene id>``.
    earlier
        What earlier runs left in it.
    """

    def __init__(self, destination: Destination) -> None:
        self.destination, self.earlier = destination, Earlier()
        self._record: dict[str, Any] | None = None
        self._published: dict[str, Any] | None = None

    def settle(self, record: dict[str, Any], *, overwrite: bool) -> None:
        """Assign the folder to a job, and remove half-written files of a killed run.

        Parameters
        ----------
        record
            Record of the job, see :meth:`geoforest.pipeline.job.Job.record`.
        overwrite
            Replace the outputs or the unfinished work of another job.

        Raises
        ------
        OutputError
            When the folder holds another job, or cannot be written to.
        """
        if not overwrite:
            self._refuse_other_job(record)
        self._record = record
        work, store = self.earlier.work, self.store
        if work is None or work.get("fingerprint") != store.fingerprint:
            # Empty the folder, and keep it: `geoforest status` may read it at any time.
            for path in (store.folder / "shards").iterdir():
                path.unlink()
            store.write_job(record)
        # Files that a killed run was writing. The lock excludes other writers.
        self.destination.prepare()
        for folder in (store.folder, store.folder / "shards"):
            for path in folder.glob(".*.partial"):
                path.unlink(missing_ok=True)
        shutil.rmtree(self.staging, ignore_errors=True)
        self.staging.mkdir()

    @property
    def record(self) -> dict[str, Any]:
        """Record of the job, as ``job.json`` starts with it."""
        assert self._record is not None, "settle() comes first"
        return self._record

    @property
    def store(self) -> ShardStore:
        """Store of finished shards, in the work folder on disk."""
        return ShardStore(self.destination.work, self.record["fingerprint"])

    @property
    def staging(self) -> Path:
        """Folder where products are made, on the file system of a destination on disk."""
        return self.destination.work / "products"

    def earlier_run(self) -> dict[str, Any] | None:
        """Return ``job.json`` of an earlier run of this job that made products, or None."""
        return self.earlier.of_job(self.record["fingerprint"])

    def finished_probability(self) -> Path | None:
        """Return the unchanged stored probability of an earlier run, or None."""
        recorded = (self.earlier_run() or {}).get("outputs", {}).get(PROBABILITY_NAME)
        return self.destination.local(PROBABILITY_NAME, recorded) if recorded else None

    def unchanged(self, wanted: dict[str, Any]) -> dict[str, Any] | None:
        """Return the summary of an earlier run with the same request and unchanged files, or None.

        Parameters
        ----------
        wanted
            The request: what products depend on besides the job, as in ``job.json``.
        """
        document = self.earlier.published
        if document is None or document.get("fingerprint") != self.record["fingerprint"]:
            return None
        if document["prediction"].get("gaps") or document.get("asked") != wanted:
            return None
        if not self.destination.holds(document["outputs"]):
            return None
        return self.destination.document(SUMMARY_NAME)

    def edited(self) -> dict[str, str]:
        """Return the products that were edited since they were made, and names to keep them by."""
        recorded = (self.earlier.published or {}).get("outputs")
        outputs = {
            name: one
            for name, one in (recorded if isinstance(recorded, dict) else {}).items()
            if name == Path(name).name and isinstance(one, dict)
        }
        taken = self.destination.names()
        return {
            name: name_for_edited(Path(name), taken) for name in self.destination.edited(outputs)
        }

    def publish(self, document: dict[str, Any], edited: Mapping[str, str]) -> None:
        """Replace the products by the staged ones; ``job.json`` comes last and marks completion.

        Parameters
        ----------
        document
            What ``job.json`` says besides the files.
        edited
            Products to keep under another name first; see :meth:`edited`.
        """
        for name, kept in edited.items():
            self.destination.keep_edited(name, kept)
        staged = sorted(item for item in self.staging.iterdir() if item.is_file())
        outputs = {item.name: record_of(item) for item in staged}
        for item in staged:
            flush(item)
        document = {**document, "outputs": outputs}
        # Until job.json is written again, the folder does not look complete; a copy of it in the
        # work folder keeps the prediction usable.
        self.store.write_job(document)
        self._published = document
        stale = self._files_before() - outputs.keys()
        journals_before = [path.name for path in journals(Path(POLYGONS_NAME))]
        self.destination.remove([JOB_NAME, *sorted(stale), *journals_before])
        for item in staged:
            self.destination.publish(item)
        for name, version in self.destination.versions().items():
            if name in outputs:
                outputs[name]["version"] = version
        text = json.dumps(sealed(document), indent=2) + "\n"
        self.destination.write(JOB_NAME, text.encode())

    def _files_before(self) -> set[str]:
        """Return names of products that may be in the folder, of any job."""
        recorded = (self.earlier.published or {}).get("outputs")
        names = {*_MARKS, *(recorded if isinstance(recorded, dict) else ())}
        # A name read from a file could lead out of the folder.
        return {name for name in names if name == Path(name).name}

    def _refuse_other_job(self, record: dict[str, Any]) -> None:
        earlier, place = self.earlier, self.destination.location
        for document, what in ((earlier.published, "outputs"), (earlier.work, "unfinished work")):
            if document is not None and document.get("fingerprint") != record["fingerprint"]:
                raise OutputError(
                    f"{place}: holds {what} of another job{_difference(document, record)}; "
                    "choose another --out, or --overwrite to replace it"
                )
        if earlier.documents:
            return
        there = self.destination.names()
        foreign = [name for name in _MARKS if name in there]
        if foreign:
            raise OutputError(
                f"{place}: holds {foreign[0]} without a job.json; choose another --out, "
                "or --overwrite to replace it"
            )

    def is_worth_keeping(self) -> bool:
        """Return whether a failed run leaves work for the next one.

        That is finished shards, or the record of products that were being published.
        """
        folder = self.destination.work
        recorded = read_json(folder / JOB_NAME) or {}
        if self._record is None:
            # Not assigned to a job yet: another job's folder, or one that this run has made.
            return bool(recorded) or any((folder / "shards").iterdir())
        return "outputs" in recorded or any((folder / "shards").glob("*.tif"))

    def has_gaps(self) -> bool:
        """Return whether the map has gaps, so that its shards are kept to complete it later."""
        document = self._published or self.earlier_run() or {}
        return bool((document.get("prediction") or {}).get("gaps"))


@contextmanager
def open_workspace(destination: Destination, *, keep_work: bool) -> Iterator[Workspace]:
    """Lock an output folder for one run.

    Parameters
    ----------
    destination
        A missing folder on disk is created.
    keep_work
        Keep the shard store after success.

    Raises
    ------
    OutputError
        When the folder is not writable, or is in use.
    """
    folder = destination.work
    made = _make_folders(folder)
    try:
        with exclusive_lock(folder):
            workspace = Workspace(destination)
            try:
                workspace.earlier = Earlier(
                    read_json(folder / JOB_NAME), destination.document(JOB_NAME)
                )
                yield workspace
            except BaseException:
                if not workspace.is_worth_keeping():
                    shutil.rmtree(folder, ignore_errors=True)
                raise
            shutil.rmtree(workspace.staging)
            if not keep_work and not workspace.has_gaps():
                shutil.rmtree(folder)
    finally:
        for path in made:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def _difference(document: dict[str, Any], record: dict[str, Any]) -> str:
    before, identity = document.get("identity", {}), record["identity"]
    names = [name for name in identity if before.get(name) != identity[name]]
    if before and "observed_rules" not in before:
        return ", made by an earlier version, whose rules for unobserved pixels were others"
    return f" (other {', '.join(names)})" if names else ""


def _make_folders(folder: Path) -> list[Path]:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        (folder / "shards").mkdir(parents=True, exist_ok=True)
        probe = folder / "lock"
        probe.touch()
    except OSError as error:
        for path in missing:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
        raise OutputError(
            f"{folder.parent}: cannot be written to ({error.strerror or error})"
        ) from error
    return missing
