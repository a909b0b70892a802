"""The account of a scene's shards: which are kept, which are missing, and their totals."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from geoforest.arrays.reflectance import BandStatistics
from geoforest.arrays.validity import ValueCounts
from geoforest.errors import IncompleteError

if TYPE_CHECKING:
    from pathlib import Path

    from geoforest.arrays.grid import Shard
    from geoforest.pipeline.job import Job
    from geoforest.pipeline.shard_store import Receipt
    from geoforest.pipeline.workspace import Workspace
    from geoforest.types import Progress

# Interval at which the file that `geoforest status` reads is written.
_NOTE_SECONDS = 1.0

_FACTS = (
    "n_windows",
    "inside_px",
    "cloud_px",
    "histogram",
    "statistics",
    "values",
    "n_shards",
    "gaps",
    "halved",
)


@dataclass
class Prediction:
    """Prediction of a whole scene: totals over the receipts of its shards.

    Attributes
    ----------
    n_windows
        Windows predicted, by this run or an earlier one.
    inside_px
        Pixels inside the area of interest.
    cloud_px
        Observed pixels inside it that the cloud mask removes.
    histogram
        Number of pixels per stored value, 256 entries.
    statistics
        Statistics of the digital numbers over observed pixels.
    values
        Counts of pixels by what their values are.
    seconds
        Seconds per stage, summed over shards; shards overlap in time.
    n_shards, reused_shards
        Shards of the job, and how many of them an earlier run had finished.
    gaps
        Reason per shard that failed for good, where gaps are allowed.
    peak_memory_mb
        Highest peak memory of the processes that predicted, MB.
    halved
        Whether a device ran out of memory, so that batches were halved.
    finished
        Stored-probability raster of an earlier run, when it was finished.
    """

    n_windows: int = 0
    inside_px: int = 0
    cloud_px: int = 0
    histogram: list[int] = field(default_factory=lambda: [0] * 256)
    statistics: BandStatistics = field(default_factory=BandStatistics)
    values: ValueCounts = field(default_factory=ValueCounts)
    seconds: dict[str, float] = field(default_factory=dict)
    n_shards: int = 0
    reused_shards: int = 0
    gaps: dict[str, str] = field(default_factory=dict)
    peak_memory_mb: float = 0.0
    halved: bool = False
    finished: Path | None = None

    def facts(self) -> dict[str, Any]:
        """Return what stays true of the stored probability when later runs reuse it."""
        facts = asdict(self)
        return {name: facts[name] for name in _FACTS}

    @classmethod
    def from_facts(cls, facts: dict[str, Any], raster: Path) -> Prediction:
        """Load a prediction that an earlier run finished."""
        statistics, values = BandStatistics(**facts["statistics"]), ValueCounts(**facts["values"])
        prediction = cls(**{**facts, "statistics": statistics, "values": values})
        prediction.reused_shards = prediction.n_shards
        prediction.finished = raster
        return prediction

    def add(self, receipt: Receipt) -> None:
        """Add the receipt of a shard to the totals."""
        self.n_shards += 1
        self.n_windows += receipt.n_windows
        self.inside_px += receipt.inside_px
        self.cloud_px += receipt.cloud_px
        self.histogram = [a + b for a, b in zip(self.histogram, receipt.histogram, strict=True)]
        self.statistics += receipt.statistics
        self.values += receipt.values
        self.halved |= receipt.halved
        self.peak_memory_mb = max(self.peak_memory_mb, receipt.peak_memory_mb)
        for stage, spent in receipt.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent


class Ledger:
    """Account of a scene's shards, from those an earlier run finished to the last receipt.

    Attributes
    ----------
    prediction
        Totals over the finished shards.
    missing
        Shards still to predict, in row order.
    failures
        Reason per name of a shard that failed for good.
    """

    def __init__(self, job: Job, workspace: Workspace, progress: Progress) -> None:
        self.job, self._workspace, self._progress = job, workspace, progress
        self.prediction = Prediction()
        self.missing: list[Shard] = []
        self.failures: dict[str, str] = {}
        self._left = 0
        self._windows: dict[str, int] = {}
        self._underway: dict[str, int] = {}
        self._windows_planned = self._windows_done = self._windows_before = 0
        self._started, self._noted = time.time(), 0.0
        finished, earlier = workspace.finished_probability(), workspace.earlier_run()
        # A map with gaps is not finished: its shards were kept, and its gaps are tried again.
        if finished and earlier and not earlier["prediction"].get("gaps"):
            self.prediction = Prediction.from_facts(earlier["prediction"], finished)
            return
        workspace.store.write_job(workspace.record)
        for shard in job.plan():
            self._windows[shard.name] = job.windows(shard)
            if (kept := workspace.store.load(shard)) is None:
                self.missing.append(shard)
            else:
                self.prediction.add(kept[1])
                self.prediction.reused_shards += 1
                self._windows_done += self._windows[shard.name]
        self._left = len(self.missing)
        self._underway = {shard.name: 0 for shard in self.missing}
        self._windows_planned = sum(self._windows.values())
        self._windows_before = self._windows_done

    def begin(self) -> None:
        """Report what is finished before the first shard of this run."""
        self._report(force=True)

    @property
    def complete(self) -> bool:
        """Whether every shard is finished, has failed, or was given up."""
        return self._left == 0

    def note(self, shard: str, n_windows: int) -> None:
        """Note how many windows of an unfinished shard, given by its name, are predicted."""
        if shard in self._underway:
            self._underway[shard] = n_windows
            self._report(force=False)

    def enter(self, shard: Shard, receipt: Receipt | None, reason: str) -> None:
        """Record the receipt of a shard, or the reason of its failure."""
        self._left -= 1
        del self._underway[shard.name]
        if receipt is None:
            self.failures[shard.name] = reason
        else:
            self.prediction.add(receipt)
            self._windows_done += self._windows[shard.name]
        self._report(force=self.complete)

    def give_up(self, count: int) -> None:
        """Leave ``count`` shards that were not started to the next run."""
        self._left -= count

    def close(self, *, allow_gaps: bool) -> Prediction:
        """Return the prediction of the whole scene.

        Raises
        ------
        IncompleteError
            When shards are missing and gaps are not allowed.
        """
        if not self.failures:
            return self.prediction
        scene_id, first = self.job.scene.scene_id, min(self.failures)
        planned, failed = len(self._windows), len(self.failures)
        finished = self.prediction.n_shards
        missing = planned - finished
        if not allow_gaps or not finished or failed < missing:
            what = "failed" if failed == missing else f"are missing, {failed} of them failed"
            raise IncompleteError(
                f"{scene_id}: {missing} of {planned} shards {what} "
                f"(first {first}: {self.failures[first]}); the others are kept, and the same "
                "command does just the missing ones"
            )
        self.prediction.gaps = dict(sorted(self.failures.items()))
        return self.prediction

    def _report(self, *, force: bool) -> None:
        done = self._windows_done + sum(self._underway.values())
        self._progress("predict", done, self._windows_planned)
        now = time.time()
        if not force and now - self._noted < _NOTE_SECONDS:
            return
        self._noted = now
        self._workspace.store.write_progress(
            {
                "pid": os.getpid(),
                "started": self._started,
                "updated": now,
                "shards": {
                    "planned": len(self._windows),
                    "finished": self.prediction.n_shards,
                    "reused": self.prediction.reused_shards,
                },
                "windows": {
                    "planned": self._windows_planned,
                    "finished": self._windows_done,
                    "before": self._windows_before,
                },
                "failures": self.failures,
            }
        )
