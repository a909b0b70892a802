"""Shards that wait for a worker, given out so that each worker goes along rows of a scene."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from geoforest.grid import Shard
from geoforest.job import Job

Item = tuple[Job, Shard]
_Row = tuple[str, int]


class WaitingShards:
    """A queue in row order for any number of workers.

    Neighbours in a row share decoded blocks, and a worker finds those that it has decoded itself.
    So each goes along a row of its own; only when no row is left to begin does it take from the
    far end of another's. For one worker it is a plain queue.
    """

    def __init__(self) -> None:
        self._rows: dict[_Row, deque[Item]] = {}
        self._row_of: dict[str, _Row] = {}

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    def add(self, job: Job, shards: Iterable[Shard]) -> None:
        """Put shards of a job at the end."""
        for shard in shards:
            self._rows.setdefault((job.fingerprint, shard.row), deque()).append((job, shard))

    def put_back(self, job: Job, shard: Shard) -> None:
        """Put a shard at the head of its row."""
        self._rows.setdefault((job.fingerprint, shard.row), deque()).appendleft((job, shard))

    def drop(self, job: Job) -> int:
        """Remove all shards of a job; returns how many there were."""
        before = len(self)
        self._rows = {row: items for row, items in self._rows.items() if row[0] != job.fingerprint}
        return before - len(self)

    def clear(self) -> None:
        """Remove everything."""
        self._rows.clear()

    def take(self, worker: str) -> Item | None:
        """Give the next shard to a worker; None when nothing waits."""
        if not self._rows:
            return None
        row = self._row_of.get(worker)
        if row in self._rows:
            return self._pop(row, left=True)
        begun = set(self._row_of.values())
        free = next((row for row in self._rows if row not in begun), None)
        if free is None:
            return self._pop(max(self._rows, key=lambda row: len(self._rows[row])), left=False)
        self._row_of[worker] = free
        return self._pop(free, left=True)

    def _pop(self, row: _Row, *, left: bool) -> Item:
        items = self._rows[row]
        item = items.popleft() if left else items.pop()
        if not items:
            del self._rows[row]
        return item
