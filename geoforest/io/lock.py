"""An exclusive lock on a folder, which the operating system frees when its holder dies."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geoforest.errors import OutputError


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Hold a folder, which must be there, for one run.

    Raises
    ------
    OutputError
        When another run holds it.
    """
    path = folder / "lock"
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(
                f"{folder}: another geoforest run is writing here; wait for it, "
                "or choose another --out"
            ) from error
        if not path.exists():
            raise OutputError(f"{folder}: another run has just finished here; run again")
        yield
