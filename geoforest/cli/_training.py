"""Feedback of a training: the batch and epoch it is at, time left, and scores."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from geoforest.cli._shared import say

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from geoforest.train.loop import Batch, Epoch

# Between two lines in a log.
_QUIET_S: Final = 120.0


class TrainingFeedback:
    """Lines on stderr: the beginning, each epoch, and now and then the batch of a long one."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._first: Batch | None = None
        self._start = self._said = time.monotonic()
        self._left = ""

    def batch(self, batch: Batch) -> None:
        """Take note of a batch that has been trained on."""
        now = time.monotonic()
        if self._first is None:
            # The first batch takes longer than others, and an earlier run may have trained some.
            self._first, self._start = batch, now
            self._begin(batch)
        else:
            done, total = batch.share - self._first.share, 1 - self._first.share
            self._left = (
                f"at most about {duration((now - self._start) * (total - done) / done)} left"
            )
        self._show(batch, now)

    def epoch(self, epoch: Epoch) -> None:
        """Say the losses and the F1 score of an epoch."""
        left = f", {self._left}" if self._left and epoch["epoch"] + 1 < self._epochs else ""
        say(
            f"epoch {epoch['epoch'] + 1} of {self._epochs}: training loss "
            f"{epoch['train_loss']:.4f}, validation loss {epoch['val_loss']:.4f}, F1 "
            f"{epoch['val_f1']:.3f}{left}"
        )

    def _begin(self, batch: Batch) -> None:
        say(f"training: {batch.batches:,} batches in each of at most {batch.epochs} passes")

    def _show(self, batch: Batch, now: float) -> None:
        if now - self._said >= _QUIET_S:
            self._said = now
            say(f"{described(batch)}, batch {batch.done:,} of {batch.batches:,}, {self._left}")


class _TrainingBar(TrainingFeedback):
    """A bar with the batches of the current epoch; the lines of epochs stand above it."""

    def __init__(self, epochs: int, rich: Progress) -> None:
        super().__init__(epochs)
        self._rich = rich
        self._task: TaskID = rich.add_task("reading the chips", total=None, left="")

    def _begin(self, batch: Batch) -> None:
        pass

    def _show(self, batch: Batch, now: float) -> None:  # noqa: ARG002 (a bar is always shown)
        self._rich.update(
            self._task,
            description=described(batch),
            completed=batch.done,
            total=batch.batches,
            left=self._left,
        )


@contextmanager
def training_feedback(epochs: int) -> Iterator[TrainingFeedback]:
    """Show a bar on a terminal, and print lines elsewhere, about at most so many epochs."""
    if not sys.stderr.isatty():
        say("reading the chips")
        yield TrainingFeedback(epochs)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True),
        # Results go to stdout; only on a terminal would they mix with the bar.
        redirect_stdout=sys.stdout.isatty(),
        transient=True,
    ) as rich:
        yield _TrainingBar(epochs, rich)


def described(batch: Batch) -> str:
    """Return which epoch a batch belongs to, counted from 1."""
    return f"epoch {batch.epoch + 1} of {batch.epochs}"


def duration(seconds: float) -> str:
    """Return a duration in its largest unit, rounded up: seconds, minutes or hours.

    Examples
    --------
    >>> duration(31.2), duration(150), duration(2 * 3600 - 1)
    ('32 s', '3 min', '2 h')
    """
    for size, unit, most in ((1, "s", 90), (60, "min", 90), (3600, "h", float("inf"))):
        count = -int(-seconds // size)
        if count <= most:
            return f"{count} {unit}"
    raise AssertionError
