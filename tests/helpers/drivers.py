"""Map jobs in processes of their own, which tests kill, and the bytes they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import psutil

from tests.helpers.forked import ROOT, Forked
from tests.helpers.jobs import PRODUCTS

SHAPE = (300, 300)
# Windows of 64 px with a halo of 8, one a shard.
N_SHARDS = 49
IN_FLIGHT = 4


def start(
    server: Path | None, module: str, *arguments: object, environment: dict[str, str]
) -> Forked | subprocess.Popen[str]:
    """Start a module as ``python -m`` does, forked where there is a server."""
    if server is not None:
        return Forked(server, module, *arguments, environment=environment)
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Driver:
    """A map job in a process of its own."""

    started: ClassVar[list[Driver]] = []
    # Of the fork server that starts them; None for interpreters of their own.
    server: ClassVar[Path | None] = None

    def __init__(self, scene: Path, out: Path, model: Path, **settings: object) -> None:
        self.folder = out / scene.stem
        self.log = out.parent / f"{out.name}.log"
        environment = {
            "FAULTY_SECONDS": "0.05",
            "FAULTY_LOG": str(self.log),
            **os.environ,
            "PYTHONPATH": str(ROOT),
        }
        command = ["tests.helpers.faulty", scene, out, model, json.dumps(settings)]
        self.process = start(self.server, *command, environment=environment)
        self.started.append(self)

    def shards(self) -> int:
        return len(list((self.folder / ".geoforest-work" / "shards").glob("r*.tif")))

    def wait_for_shards(self, count: int) -> None:
        deadline = time.monotonic() + 120
        while self.shards() < count:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def workers(self) -> list[psutil.Process]:
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]

    def end(self) -> tuple[int, dict[str, object], str]:
        out, err = self.process.communicate(timeout=180)
        return self.process.returncode, json.loads(out) if out else {}, err

    def windows(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


def finished_bytes(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in PRODUCTS}
