"""Processes that are killed at the n-th change of a folder, for each n.

``python -m tests.helpers.kills MODULE:CLASS FOLDER`` makes a :class:`Scenario` of the folder, and
forks once per step: the child kills itself just before the n-th time that something below the
folder is opened for writing, made, renamed or removed.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).parents[2]
_EVENTS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link"}
_MOST_STEPS = 500


class Scenario(Protocol):
    """What is done and looked at, again and again, in a folder."""

    def prepare(self) -> None:
        """Bring the folder to the state before the run."""

    def act(self) -> None:
        """Do what is killed."""

    def check(self) -> None:
        """Look at what a killed run has left, do it again to the end, and look again."""


def survive_each_kill(scenario: type, folder: Path) -> int:
    """Run a scenario in a process of its own; return the number of kills."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, f"{scenario.__module__}:{scenario.__name__}", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return int(done.stdout.splitlines()[-1])


def kill_at(folder: Path, step: int) -> None:
    """Let this process be killed at a step."""
    count = 0

    def hook(event: str, arguments: tuple) -> None:
        nonlocal count
        if event == "open":
            writes = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if not writes:
                return
        elif event not in _EVENTS:
            return
        # A tree is removed by names relative to open folders.
        relative = event in ("os.remove", "os.rmdir") and arguments[-1] != -1
        if relative or str(arguments[0]).startswith(str(folder)):
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _main(target: str, folder: Path) -> None:
    module, _, name = target.partition(":")
    scenario: Scenario = getattr(importlib.import_module(module), name)(folder)
    # What is loaded and compiled once is then there in all children.
    scenario.prepare()
    scenario.act()
    for step in range(1, _MOST_STEPS):
        scenario.prepare()
        child = os.fork()
        if child == 0:
            kill_at(folder, step)
            scenario.act()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code in (0, -signal.SIGKILL), f"step {step}: {code}"
        scenario.check()
        if code == 0:
            print(step - 1)
            return
    raise AssertionError(f"more than {_MOST_STEPS} steps")


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]))
