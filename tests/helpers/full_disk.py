"""A disk that is full, for good or for a moment, from the n-th write on.

``python -m tests.helpers.full_disk MODULE:CLASS FOLDER N``, with ``full_disk.c`` preloaded, writes
the same output again and again; each time other writes below the folder fail.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import shutil
import subprocess
import sys
import traceback
from pathlib import Path
from typing import NoReturn, Protocol

import pytest

ROOT = Path(__file__).parents[2]
_NEVER = 1 << 60
_TOLD = 3


class Writer(Protocol):
    """Something that is written to a folder."""

    # What a failure to write must raise.
    error: type[Exception]

    def write(self, folder: Path) -> None:
        """Write it to an empty folder."""

    def read(self, folder: Path) -> object:
        """Return all that counts of what was written."""


def survive_full_disks(writer: type, folder: Path, most: int = 60) -> int:
    """Run a writer in a process of its own; return the number of failures that were told."""
    library = _build(folder / "full_disk.so")
    done = subprocess.run(
        [sys.executable, "-m", __name__, f"{writer.__module__}:{writer.__name__}",
         str(folder), str(most)],
        cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": str(library), "FULL_DISK": str(library)},
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr[-3000:]}"
    return int(done.stdout.splitlines()[-1])


def _build(path: Path) -> Path:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("writes can be made to fail where Linux has a C compiler")
    source = Path(__file__).with_suffix(".c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", path, source, "-ldl"], check=True)
    return path


def _main(target: str, home: Path, most: int) -> None:
    module, _, name = target.partition(":")
    writer: Writer = getattr(importlib.import_module(module), name)()
    disk = ctypes.CDLL(os.environ["FULL_DISK"])
    folder = home / "disk"

    def attempt(first: int, last: int) -> object:
        """Return what was written, or None where it was not."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        # In a process of its own: GDAL itself crashes where some writes fail.
        child = os.fork()
        if child == 0:
            _write(writer, folder, disk, first, last)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code in (0, _TOLD) or code < 0, f"writes {first} to {last}: {code}"
        if code == _TOLD:
            assert not list(folder.rglob("*")), list(folder.rglob("*"))
        return writer.read(folder) if code == 0 else None

    # What is loaded and compiled once is then there in all children.
    folder.mkdir(parents=True)
    writer.write(folder)
    whole = attempt(_NEVER, _NEVER)
    n_writes = int((home / "count").read_text())
    assert whole is not None
    failed, missed = 0, []
    for n in range(1, n_writes + 1, max(1, n_writes // most)):
        for last in (n, _NEVER):
            found = attempt(n, last)
            failed += found is None
            if found is not None and found != whole:
                missed.append(f"{n} to {'the last' if last == _NEVER else n}")
    assert not missed, f"of {n_writes} writes failures unnoticed: {', '.join(missed)}"
    print(failed)


def _write(writer: Writer, folder: Path, disk: ctypes.CDLL, first: int, last: int) -> NoReturn:
    """Write, count the writes, and end this process."""
    code = 0
    disk.fail_writes(os.fsencode(folder), ctypes.c_long(first), ctypes.c_long(last))
    try:
        writer.write(folder)
    except writer.error:
        code = _TOLD
    except BaseException:  # noqa: BLE001 - this process ends
        traceback.print_exc()
        code = 1
    disk.fail_writes(b"", ctypes.c_long(_NEVER), ctypes.c_long(_NEVER))
    (folder.parent / "count").write_text(str(disk.writes()))
    os._exit(code)


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
