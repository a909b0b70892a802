"""How far a map job is, read from what it leaves on disk, while it runs or after."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from geoforest.errors import InputError
from geoforest.io.names import JOB_NAME, PROGRESS_NAME, SUMMARY_NAME
from geoforest.io.remote import shown
from geoforest.io.storage import is_locked, read_json
from geoforest.maps.destination import Destination, jobs_in

if TYPE_CHECKING:
    import os

State = Literal["running", "finishing", "stopped", "done", "done with gaps"]


@dataclass(frozen=True)
class Status:
    """How far one scene's map is.

    Attributes
    ----------
    state
        ``running`` predicts, ``finishing`` makes rasters and polygons, ``stopped`` waits to be
        taken up by the same command, ``done`` has all its products.
    shards, finished_shards
        Of the whole scene, and those that need not be predicted again.
    failures
        Reason by name of the shards that failed for good in the last run.
    windows_per_second, seconds_left
        Of the run that is going on; None until it has predicted a window.
    """

    folder: str
    state: State
    shards: int = 0
    finished_shards: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    windows_per_second: float | None = None
    seconds_left: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def status(folder: str | os.PathLike[str]) -> list[Status]:
    """Tell how far the maps in a folder are.

    Parameters
    ----------
    folder
        Of one map, or of several, as ``--out``. Of maps that go to a bucket, what has been begun
        is seen on the machine that makes them.

    Raises
    ------
    InputError
        When there is no map in it, finished or begun.
    """
    found = [one for destination in jobs_in(folder) if (one := _status(destination)) is not None]
    if not found:
        raise InputError(
            f"{shown(str(folder))}: holds no map, finished or begun; the --out of one was wanted"
        )
    return found


def _status(destination: Destination) -> Status | None:
    work = destination.work
    recorded = read_json(work / JOB_NAME)
    if recorded is None:
        return _finished(destination)
    note = read_json(work / PROGRESS_NAME) or {}
    held = is_locked(work)
    if not held and recorded.get("outputs") and (done := _finished(destination)):
        return done
    shards = note.get("shards", {})
    planned = int(shards.get("planned", 0))
    # A killed run may have committed more than it could still tell.
    finished = len(list((work / "shards").glob("r*.tif")))
    rate, left = _rate(note) if held else (None, None)
    state: State = "stopped"
    if held:
        state = "finishing" if planned and finished >= planned else "running"
    failures = dict(note.get("failures", {}))
    return Status(str(destination.location), state, planned, finished, failures, rate, left)


def _finished(destination: Destination) -> Status | None:
    document, summary = destination.document(JOB_NAME), destination.document(SUMMARY_NAME)
    if document is None or summary is None:
        return None
    gaps = dict(summary.get("gaps", {}))
    shards = int(summary["shards"])
    state: State = "done with gaps" if gaps else "done"
    return Status(str(destination.location), state, shards + len(gaps), shards, gaps)


def _rate(note: dict[str, Any]) -> tuple[float | None, float | None]:
    windows = note.get("windows", {})
    done = windows.get("finished", 0) - windows.get("before", 0)
    if done <= 0:
        return None, None
    rate = done / max(note["updated"] - note["started"], 1e-3)
    left = (windows["planned"] - windows["finished"]) / rate - (time.time() - note["updated"])
    return round(rate, 3), round(max(left, 0.0), 1)
