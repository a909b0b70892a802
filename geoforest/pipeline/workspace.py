"""The output folder of one job: refused, locked, staged, and published in one step."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoforest.errors import OutputError
from geoforest.io.geopackage import journals
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
from geoforest.io.storage import file_sha256, flush, read_json
from geoforest.maps.destination import Target
from geoforest.pipeline.shard_store import ShardStore

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
class Workspace:
    """Where a job works and where its products go.

    Attributes
    ----------
    target
        Of the products, ``OUT/<scene id>``.
    store
        Finished shards, in a work folder on disk.
    record
        What another run has to know of this job, see :meth:`geoforest.pipeline.job.Job.record`.
    """

    target: Target
    store: ShardStore
    record: dict[str, Any]

    @property
    def staging(self) -> Path:
        """Products are made here, on the file system of their target if that is on disk."""
        return self.store.folder / "products"

    def earlier_run(self) -> dict[str, Any] | None:
        """``job.json`` of an earlier run of this very job, or None.

        A run that was killed while it published has left it in the work folder.
        """
        for document in (self.target.document(JOB_NAME), self.store.recorded()):
            if document is None or document.get("fingerprint") != self.store.fingerprint:
                continue
            if isinstance(document.get("outputs"), dict):
                return document
        return None

    def finished_probability(self) -> Path | None:
        """Find the stored probability of an earlier run, where it is there and untouched."""
        recorded = (self.earlier_run() or {}).get("outputs", {}).get(PROBABILITY_NAME)
        return self.target.local(PROBABILITY_NAME, recorded) if recorded else None

    def unchanged(self, wanted: dict[str, Any]) -> dict[str, Any] | None:
        """Summary of an earlier run of this job that asked for the same and left it untouched.

        Parameters
        ----------
        wanted
            What the products depend on besides the job, as it would stand in ``job.json``.
        """
        document = self.target.document(JOB_NAME)
        if document is None or document.get("fingerprint") != self.store.fingerprint:
            return None
        if document["prediction"].get("gaps") or document.get("asked") != wanted:
            return None
        if not self.target.holds(document["outputs"]):
            return None
        return self.target.document(SUMMARY_NAME)

    def publish(self, document: dict[str, Any]) -> None:
        """Replace the products by the staged ones; ``job.json`` goes last and says it is done."""
        staged = sorted(item for item in self.staging.iterdir() if item.is_file())
        outputs: dict[str, dict[str, Any]] = {
            item.name: {"sha256": file_sha256(item), "bytes": item.stat().st_size}
            for item in staged
        }
        for item in staged:
            flush(item)
        document = {**document, "outputs": outputs}
        # From here until job.json is back, the folder does not look complete; a copy of it in the
        # work folder keeps the prediction usable.
        self.store.record(document)
        stale = self._files_before() - outputs.keys()
        journals_before = [path.name for path in journals(Path(POLYGONS_NAME))]
        self.target.remove([JOB_NAME, *sorted(stale), *journals_before])
        for item in staged:
            self.target.take(item)
        for name, version in self.target.versions().items():
            if name in outputs:
                outputs[name]["version"] = version
        self.target.write(JOB_NAME, (json.dumps(document, indent=2) + "\n").encode())

    def _files_before(self) -> set[str]:
        """Names of the products that lie in the folder, of whatever job."""
        recorded = (self.target.document(JOB_NAME) or {}).get("outputs")
        names = {*_MARKS, *(recorded if isinstance(recorded, dict) else ())}
        # A name in a file is not trusted to stay in the folder.
        return {name for name in names if name == Path(name).name}


@contextmanager
def open_workspace(
    target: Target, record: dict[str, Any], *, overwrite: bool, keep_work: bool
) -> Iterator[Workspace]:
    """Claim an output folder for a job.

    Parameters
    ----------
    target
        A folder on disk is made if it is not there.
    record
        Of the job, with its ``fingerprint`` and ``identity``: what differs from an earlier job is
        named.
    overwrite
        Replace the outputs or the unfinished work of another job.
    keep_work
        Keep the shard store after success.

    Raises
    ------
    OutputError
        When the folder is not writable, is in use, or holds another job.
    """
    _refuse_other_job(target, record, overwrite=overwrite)
    store = ShardStore(target.work, record["fingerprint"])
    made = _make_folders(store.folder)
    try:
        with store.locked():
            workspace = Workspace(target, store, record)
            try:
                _prepare(workspace)
                yield workspace
            except BaseException:
                # Finished shards are for the next run, and so is what it must know of products
                # that were being published; without either there is nothing to keep.
                published = "outputs" in (store.recorded() or {})
                if not published and not any((store.folder / "shards").glob("*.tif")):
                    shutil.rmtree(store.folder, ignore_errors=True)
                raise
            shutil.rmtree(workspace.staging)
            # The finished shards of a map with gaps are worth keeping: it can be completed.
            gaps = ((workspace.earlier_run() or {}).get("prediction") or {}).get("gaps")
            if not keep_work and not gaps:
                shutil.rmtree(store.folder)
    finally:
        for path in made:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def earlier_documents(target: Target) -> list[dict[str, Any]]:
    """Give each ``job.json`` of an output folder: of unfinished work, of products."""
    documents = read_json(target.work / JOB_NAME), target.document(JOB_NAME)
    return [document for document in documents if document is not None]


def _prepare(workspace: Workspace) -> None:
    store = workspace.store
    recorded = store.recorded()
    if recorded is None or recorded.get("fingerprint") != store.fingerprint:
        # Emptied, and not made anew: whoever asks how far a run is looks into it at any time.
        for path in (store.folder / "shards").iterdir():
            path.unlink()
        store.record(workspace.record)
    # What was being written when an earlier run was killed; nobody else writes here now.
    workspace.target.prepare()
    for folder in (store.folder, store.folder / "shards"):
        for path in folder.glob(".*.partial"):
            path.unlink(missing_ok=True)
    shutil.rmtree(workspace.staging, ignore_errors=True)
    workspace.staging.mkdir()


def _refuse_other_job(target: Target, record: dict[str, Any], *, overwrite: bool) -> None:
    if overwrite:
        return
    work = read_json(target.work / JOB_NAME)
    done = target.document(JOB_NAME)
    for document, what in ((done, "outputs"), (work, "unfinished work")):
        if document is not None and document.get("fingerprint") != record["fingerprint"]:
            raise OutputError(
                f"{target.location}: holds {what} of another job{_difference(document, record)}; "
                "choose another --out, or --overwrite to replace it"
            )
    if done is not None or work is not None:
        return
    there = target.names()
    foreign = [name for name in _MARKS if name in there]
    if foreign:
        raise OutputError(
            f"{target.location}: holds {foreign[0]} without a job.json; choose another --out, "
            "or --overwrite to replace it"
        )


def _difference(document: dict[str, Any], record: dict[str, Any]) -> str:
    before, identity = document.get("identity", {}), record["identity"]
    names = [name for name in identity if before.get(name) != identity[name]]
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
