"""Arrays in a temporary file, so that memory does not grow with the scene."""

from __future__ import annotations

import os
import tempfile
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoforest.errors import WriteError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Ticket:
    """Places of arrays in the file: offset in bytes, dtype and shape of each."""

    places: Mapping[str, tuple[int, np.dtype[Any], tuple[int, ...]]]


class Spill:
    """Arrays in a file without a name: it vanishes with the process, even with a killed one.

    Threads may put and get at the same time.

    Parameters
    ----------
    folder
        Folder of the file; None for the system's folder of temporary files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._end = 0
        try:
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise self._failure(error) from error

    def put(self, **arrays: NDArray[Any]) -> Ticket:
        """Write arrays to the file.

        Raises
        ------
        WriteError
            When the disk is full.
        """
        places = {}
        for name, array in arrays.items():
            content = memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
            with self._lock:
                offset, self._end = self._end, self._end + len(content)
            places[name] = (offset, array.dtype, array.shape)
            try:
                while len(content):
                    written = os.pwrite(self._file.fileno(), content, offset)
                    content, offset = content[written:], offset + written
            except OSError as error:
                raise self._failure(error) from error
        return Ticket(places)

    def get(self, *tickets: Ticket) -> Arrays:
        """Read arrays back; they stay in the file.

        Raises
        ------
        WriteError
            When the file cannot be read, or was cut short.
        """
        arrays: Arrays = {}
        for ticket in tickets:
            for name, (offset, dtype, shape) in ticket.places.items():
                arrays[name] = np.empty(shape, dtype)
                if arrays[name].size:
                    self._fill(arrays[name].reshape(-1).view(np.uint8).data, offset)
        return arrays

    def _fill(self, view: memoryview, offset: int) -> None:
        while len(view):
            try:
                read = os.preadv(self._file.fileno(), [view], offset)
            except OSError as error:
                raise self._failure(error) from error
            if not read:
                raise WriteError(f"{self._where()}: a temporary file has been cut short")
            view, offset = view[read:], offset + read

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

    def _failure(self, error: OSError) -> WriteError:
        return WriteError(
            f"{self._where()}: polygons need room there while they are made "
            f"({error.strerror or error})"
        )

    def _where(self) -> str:
        return str(self._folder or tempfile.gettempdir())
