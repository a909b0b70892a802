"""Room on a disk."""

from __future__ import annotations

import shutil
from pathlib import Path

from geoforest.errors import OutputError


def require_space(folder: Path, n_bytes: int) -> None:
    """Refuse a folder whose disk has not ``n_bytes`` free.

    Raises
    ------
    OutputError
        With what is free and what is wanted.
    """
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise OutputError(f"{folder}: {free >> 20:,} MB are free, {n_bytes >> 20:,} MB are wanted")
