"""Processes that load chips: the shared memory that they need, and what to say when one dies."""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from geoforest.errors import GeoforestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from geoforest.train.chips import Chip
    from geoforest.train.settings import TrainSettings

# Where Linux keeps what processes share; batches travel through it.
SHARED_MEMORY: Final = Path("/dev/shm")
# Batches that each process loads ahead, torch's default.
_AHEAD: Final = 2
_REMEDY: Final = (
    "more shared memory (docker run --shm-size=2g), fewer --workers, or --workers 0; the same "
    "command goes on from the last epoch"
)
_SHORT_OF_SHARED: Final = re.compile(
    r"Bus error|shared memory|/torch_\d|worker process.*No space left|worker process.*mmap",
    re.DOTALL | re.IGNORECASE,
)
_KILLED: Final = re.compile(r"DataLoader worker \(pid.*?\) is killed by signal: ([\w ]+)")
_DEAD: Final = re.compile(r"DataLoader worker \(pid.*?\) exited")
_TOO_MANY_FILES: Final = re.compile(r"Too many open files|ancdata")


def batch_bytes(chips: Mapping[str, Sequence[Chip]], settings: TrainSettings) -> int:
    """Return the bytes of a batch: images in float32, and masks."""
    chip = chips["train"][0]
    return settings.batch_size * (4 * chip.dn.size + chip.mask.size)


def require_shared_memory(workers: int, n_bytes: int) -> None:
    """Check that processes can share the batches that they load ahead.

    Otherwise a bus error would end one of them, as in containers, which have 64 MB by default.

    Parameters
    ----------
    workers
        Number of processes; without any nothing is shared.
    n_bytes
        Bytes of a batch.

    Raises
    ------
    GeoforestError
        When the shared memory is too small.
    """
    if not workers or not SHARED_MEMORY.is_dir():
        return
    free, needed = shutil.disk_usage(SHARED_MEMORY).free, workers * _AHEAD * n_bytes
    if free < needed:
        raise GeoforestError(
            f"{SHARED_MEMORY}: {free / 1e6:,.1f} MB are free, and the {workers} processes that "
            f"load chips share {needed / 1e6:,.1f} MB; wanted: {_REMEDY}"
        )


@contextmanager
def deaths_explained() -> Iterator[None]:
    """Explain in one sentence why a process that loads chips died or could not pass on a batch.

    Raises
    ------
    GeoforestError
        Instead of torch's error; other errors pass through.
    """
    try:
        yield
    except (RuntimeError, OSError) as error:
        text = _texts(error)
        if _SHORT_OF_SHARED.search(text):
            reason = (
                f"the processes that load chips have too little shared memory; wanted: {_REMEDY}"
            )
        elif (killed := _KILLED.search(text)) or _DEAD.search(text):
            how = f" by the signal {killed[1].strip()}" if killed else ""
            reason = (
                f"a process that loads chips ended{how}, perhaps for want of memory; wanted: more "
                "memory, fewer --workers, or --workers 0; the same command goes on from the last "
                "epoch"
            )
        elif _TOO_MANY_FILES.search(text):
            reason = (
                "the processes that load chips have too many open files; wanted: a higher limit "
                "(ulimit -n), fewer --workers, or --workers 0"
            )
        else:
            raise
        raise GeoforestError(reason) from error


def _texts(error: BaseException) -> str:
    """Return the messages of an error and of those that led to it; torch names the signal there."""
    texts: list[str] = []
    one: BaseException | None = error
    while one is not None and len(texts) < 9:
        texts.append(str(one))
        one = one.__cause__ or one.__context__
    return "\n".join(texts)
