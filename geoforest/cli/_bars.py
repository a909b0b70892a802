"""Progress bars for a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from geoforest.cli._progress import Bars, Progress

_STAGES = {
    "prepare": "load the model, choose the runtime",
    "predict": "predict windows",
}


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = task.finished_speed or task.speed
        return Text(f"{rate:.1f} windows/s" if rate and task.fields.get("rated") else "")


class _TerminalBars(Bars):
    def __init__(self, rich: RichProgress, count: int) -> None:
        self._rich = rich
        self._overall = rich.add_task("scenes", total=count) if count > 1 else None

    def begin(self, title: str) -> Progress:
        shown: dict[str, TaskID] = {}

        def update(stage: str, done: int, total: int) -> None:
            if stage not in shown:
                if self._overall is not None:
                    # The stages of a scene follow one another: show one line per scene.
                    while shown:
                        self._rich.remove_task(shown.popitem()[1])
                if stage == "done":
                    return
                shown[stage] = self._rich.add_task(
                    f"{title}: {_STAGES.get(stage, stage)}", rated=stage == "predict"
                )
            # Nobody knows how far a stage of one step is: its bar pulses.
            known = total if total > 1 or done else None
            self._rich.update(shown[stage], completed=done, total=known)

        return update

    def scene_ended(self) -> None:
        if self._overall is not None:
            self._rich.advance(self._overall)


@contextmanager
def terminal_bars(count: int) -> Iterator[Bars]:
    """Show bars on stderr, for :func:`geoforest.cli._shared.progress_bars`."""
    with RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        # The rate of a job is steady, so a long period gives a steady estimate.
        speed_estimate_period=600,
        # Results go to stdout; only on a terminal would they mix with the bars.
        redirect_stdout=sys.stdout.isatty(),
    ) as rich:
        yield _TerminalBars(rich, count)
