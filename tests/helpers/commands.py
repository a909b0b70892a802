"""The command line as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass


@dataclass
class Done:
    """Exit code of a command and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def in_a_process(*arguments: object, code: str = "from geoforest.cli import main; main()") -> Done:
    """Run the command as a user does."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def refused(done: Done, sentence: str, code: int = 2) -> None:
    """Check that a command ended with an exit code and one sentence, and printed nothing else."""
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert done.stderr.startswith("geoforest: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
