"""The fence at the command line: no error reaches the user as a traceback, and no key is told."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from tests.helpers.commands import Done, in_a_process

SECRET = "4f9a1c7be2d8"
COMMAND = """
import os, sys
from geoforest.cli import app, main

@app.command()
def broken(scene: str = "") -> None:
    {statement}

main()
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GEOFOREST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def broken(statement: str, *arguments: object) -> Done:
    """Run a command that does nothing but a statement."""
    return in_a_process("broken", *arguments, code=COMMAND.format(statement=statement))


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("raise TypeError('two\\nlines')", "TypeError: two lines"),
        ("raise MemoryError", "MemoryError"),
        ("import asyncio; raise asyncio.CancelledError", "CancelledError"),
        ("import requests; raise requests.ConnectionError('gone')", "ConnectionError: gone"),
        (
            "from rasterio.errors import RasterioIOError; raise RasterioIOError('Read failed')",
            "RasterioIOError: Read failed",
        ),
    ],
)
def test_any_other_error_is_one_sentence_and_a_file(cache: Path, statement: str, what: str) -> None:
    done = broken(statement)
    assert done.returncode == 70, done.stderr
    (log,) = (cache / "faults").iterdir()
    sentence = (
        f"geoforest: an error that geoforest did not expect ({what}); the details are in {log}"
    )
    assert done.stderr == f"{sentence}\n"
    assert done.stdout == ""
    assert "Traceback (most recent call last)" in log.read_text()
    assert "in broken" in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_keys_are_told_nowhere(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    url = f"https://me:{SECRET}@host/a.tif?sig={SECRET}"
    done = broken(f"raise TypeError('{url} with {SECRET}' + scene)", "--scene", url)
    assert done.returncode == 70
    (log,) = (cache / "faults").iterdir()
    assert SECRET not in done.stderr + log.read_text()
    assert "https://host/a.tif" in log.read_text()
    assert "<AWS_SECRET_ACCESS_KEY>" in log.read_text()


def test_where_no_file_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GEOFOREST_CACHE", str(tmp_path / "file"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    done = broken("raise TypeError('a')")
    assert re.search(rf"the details are in {tmp_path}/geoforest-fault-\S+\.log\n$", done.stderr)


@pytest.mark.parametrize(
    ("statement", "code", "told"),
    [
        ("raise OSError(28, 'No space left on device', 'a.tif')", 1, "geoforest: [Errno 28] "),
        ("from geoforest.errors import SceneError; raise SceneError('bad')", 2, "geoforest: bad"),
        ("from geoforest.errors import WriteError; raise WriteError('bad')", 1, "geoforest: bad"),
        ("raise KeyboardInterrupt", 1, "geoforest: interrupted; "),
        ("sys.exit(3)", 3, ""),
        ("import typer; raise typer.Exit(4)", 4, ""),
        ("import typer; raise typer.BadParameter('no')", 2, "Usage: "),
        ("raise BrokenPipeError(32, 'Broken pipe')", 1, ""),
    ],
)
def test_other_ends_are_as_they_were(cache: Path, statement: str, code: int, told: str) -> None:
    done = broken(statement)
    assert done.returncode == code, done.stderr
    assert done.stderr.lstrip().startswith(told)
    assert "Traceback" not in done.stderr
    assert not (cache / "faults").exists()
