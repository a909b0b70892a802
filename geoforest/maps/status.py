"""Progress of map jobs, read from their files while they run or after."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from geoforest.errors import InputError
from geoforest.io.locks import is_locked
from geoforest.io.names import JOB_NAME, PROGRESS_NAME, SUMMARY_NAME
from geoforest.io.remote import shown
from geoforest.io.storage import read_json
from geoforest.maps.destination import Destination, jobs_in

if TYPE_CHECKING:
    import os

State = Literal["running", "finishing", "stopped", "done", "done with gaps"]


@dataclass(frozen=True)
class Status:
    """Progress of the map of one scene.

    Attributes
    ----------
    folder
        Output folder or prefix of the map.
    state
        ``running`` predicts, ``finishing`` writes rasters and polygons, ``stopped`` can be resumed
        by the same command, ``done`` has all its products.
    shards, finished_shards
        Number of shards in the whole scene, and of those already predicted.
    failures
        Reason of failure by shard name, for shards that failed every attempt of the last run.
    windows_per_second, seconds_left
        Speed and remaining time of the present run; None until it has predicted a window.
    """

    folder: str
    state: State
    shards: int = 0
    finished_shards: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    windows_per_second: float | None = None
    seconds_left: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as a dictionary that JSON can hold."""
        return asdict(self)


def status(folder: str | os.PathLike[str]) -> list[Status]:
    """Report the progress of the maps in a folder.

    Parameters
    ----------
    folder
        Output folder of one map, or of several (``--out``). Unfinished maps of a bucket are only
        seen on the machine that makes them.

    Raises
    ------
    InputError
        When the folder holds no map, finished or begun.
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
        return _finished_status(destination)
    note = read_json(work / PROGRESS_NAME) or {}
    held = is_locked(work)
    if not held and recorded.get("outputs") and (done := _finished_status(destination)):
        return done
    shards = note.get("shards", {})
    planned = int(shards.get("planned", 0))
    # A killed run may have committed more shards than its progress file says.
    finished = len(list((work / "shards").glob("r*.tif")))
    rate, left = _rate(note) if held else (None, None)
    state: State = "stopped"
    if held:
        state = "finishing" if planned and finished >= planned else "running"
    failures = dict(note.get("failures", {}))
    return Status(str(destination.location), state, planned, finished, failures, rate, left)


def _finished_status(destination: Destination) -> Status | None:
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
