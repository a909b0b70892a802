"""Wall-clock time of the stages of a run."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Clock:
    """Wall-clock seconds per stage, in :attr:`seconds`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = self._lap = time.perf_counter()

    def total(self) -> float:
        """Return the seconds since the clock was created."""
        return time.perf_counter() - self._started

    def lap(self, name: str) -> None:
        """Set the time of a stage to that since the last lap, or since the clock was created."""
        now = time.perf_counter()
        self.seconds[name], self._lap = now - self._lap, now

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
