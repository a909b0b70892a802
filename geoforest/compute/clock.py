"""Wall seconds a stage."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Clock:
    """Wall seconds a stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = self._lap = time.perf_counter()

    def total(self) -> float:
        """Seconds since the clock was made."""
        return time.perf_counter() - self._started

    def lap(self, name: str) -> None:
        """Give a stage the time since the last lap, or since the clock was made."""
        now = time.perf_counter()
        self.seconds[name], self._lap = now - self._lap, now

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of a block to a stage."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
