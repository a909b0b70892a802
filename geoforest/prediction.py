"""Every shard of a job predicted, resumed or found finished, and what they told together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from geoforest.errors import IncompleteError
from geoforest.grid import Shard
from geoforest.io.shards import Receipt
from geoforest.job import Job, with_recorded_threads
from geoforest.reflectance import BandStatistics
from geoforest.workspace import Workspace

Progress = Callable[[str, int, int], None]
"""Called with a stage, the windows or steps done, and how many there are."""


_FACTS = ("n_windows", "inside_px", "histogram", "statistics", "n_shards")


@dataclass
class Prediction:
    """What prediction of a whole scene told, summed over its shards.

    Attributes
    ----------
    n_windows
        Windows predicted, by this run or an earlier one.
    inside_px
        Pixels inside the area of interest.
    histogram
        Pixels of each stored value, 256 entries.
    statistics
        Of the stored numbers over observed pixels.
    seconds
        By stage, summed over shards; stages of different shards overlap.
    n_shards, reused_shards
        All shards of the job, and those an earlier run had finished.
    finished
        The stored-probability raster, where an earlier run had finished that too.
    """

    n_windows: int = 0
    inside_px: int = 0
    histogram: list[int] = field(default_factory=lambda: [0] * 256)
    statistics: BandStatistics = field(default_factory=BandStatistics)
    seconds: dict[str, float] = field(default_factory=dict)
    n_shards: int = 0
    reused_shards: int = 0
    finished: Path | None = None

    def facts(self) -> dict[str, Any]:
        """Tell what stays true of the stored probability, however often it is used again."""
        facts = asdict(self)
        return {name: facts[name] for name in _FACTS}

    @classmethod
    def from_facts(cls, facts: dict[str, Any], raster: Path) -> Prediction:
        """Take up a prediction that an earlier run finished."""
        prediction = cls(**{**facts, "statistics": BandStatistics(**facts["statistics"])})
        prediction.reused_shards = prediction.n_shards
        prediction.finished = raster
        return prediction

    def add(self, receipt: Receipt) -> None:
        """Count a shard in."""
        self.n_shards += 1
        self.n_windows += receipt.n_windows
        self.inside_px += receipt.inside_px
        self.histogram = [a + b for a, b in zip(self.histogram, receipt.histogram, strict=True)]
        self.statistics += receipt.statistics
        for stage, spent in receipt.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent


def resumed(job: Job, workspace: Workspace) -> Job:
    """Give the job with the thread count that an earlier run resolved."""
    threads = (workspace.store.recorded() or {}).get("threads")
    return with_recorded_threads(job, threads) if threads else job


def predict_scene(job: Job, workspace: Workspace, progress: Progress) -> Prediction:
    """Bring every shard of a job into the store, or find the finished raster of an earlier run."""
    from geoforest.engine import run_shards

    prediction = Prediction()
    finished, earlier = workspace.finished_probability(), workspace.earlier_run()
    if finished is not None and earlier is not None:
        return Prediction.from_facts(earlier["prediction"], finished)
    workspace.store.record(
        {"fingerprint": job.fingerprint, "identity": job.identity, "threads": job.runtime.threads}
    )
    shards = job.plan()
    cores = {shard.name: sum(1 for _ in job.grid.cores(shard.extent)) for shard in shards}
    total = sum(cores.values())
    missing: list[Shard] = []
    done = 0
    for shard in shards:
        if (kept := workspace.store.load(shard)) is None:
            missing.append(shard)
        else:
            prediction.add(kept[1])
            prediction.reused_shards += 1
            done += cores[shard.name]
    progress("predict", done, total)

    def on_receipt(receipt: Receipt) -> None:
        nonlocal done
        prediction.add(receipt)
        done += cores[receipt.shard]
        progress("predict", done, total)

    outcome = run_shards(job, missing, workspace.store, on_receipt=on_receipt)
    if outcome.failures:
        first = min(outcome.failures)
        raise IncompleteError(
            f"{job.scene.scene_id}: {len(outcome.failures)} of {len(shards)} shards failed "
            f"(first {first}: {outcome.failures[first]}); the others are kept, and the same "
            "command does just the missing ones"
        )
    return prediction
