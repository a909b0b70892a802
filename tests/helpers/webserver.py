"""``dagster dev`` on this checkout, and its pages in a real browser."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from playwright.sync_api import Page, expect

ROOT = Path(__file__).parents[2]
_START_S = 120


@contextmanager
def dagster_dev(folder: Path, **environment: str) -> Iterator[str]:
    """Start webserver and daemon as a user does, with everything in ``folder``; gives the address.

    Parameters
    ----------
    folder
        For Dagster's own files, the log, and what the assets make.
    environment
        Added to that of this process.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = folder / "dagster"
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    # Ours alone: no settings of the user's may point elsewhere.
    inherited = {name: value for name, value in os.environ.items() if name in _KEPT}
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster", "dev", "--host", "127.0.0.1", "--port", str(port)],
            cwd=ROOT,
            env={
                **inherited,
                "DAGSTER_HOME": str(home),
                "DAGSTER_DISABLE_TELEMETRY": "yes",
                "GEOFOREST_HOME": str(folder / "geoforest"),
                **environment,
            },
            stdout=log,
            stderr=subprocess.STDOUT,
            # Its children are many: the whole group ends.
            start_new_session=True,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(address, process, folder / "log.txt")
            yield address
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


_KEPT = {"PATH", "HOME", "TMPDIR", "GEOFOREST_CACHE", "VIRTUAL_ENV", "OMP_NUM_THREADS"}


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            found = ask(address, "{ repositoriesOrError { __typename } }")
        except (URLError, ConnectionError):
            time.sleep(0.3)
            continue
        if found["repositoriesOrError"]["__typename"] == "RepositoryConnection":
            return
    raise AssertionError(f"dagster dev did not start: {log.read_text()[-3000:]}")


def ask(address: str, query: str) -> dict[str, Any]:
    """Ask Dagster's GraphQL."""
    body = json.dumps({"query": query}).encode()
    request = Request(f"{address}/graphql", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        return dict(json.load(answer)["data"])


def show_lineage(page: Page, address: str) -> None:
    """Show the lineage of all assets, its groups opened, as wide as the window is."""
    page.goto(f"{address}/asset-groups")
    page.get_by_role("button", name="Hide navigation").click()
    # The graph is there, and its groups are closed.
    expect(page.get_by_role("img", name="unfold_more").first).to_be_visible(timeout=60_000)
    page.keyboard.press("Alt+e")
    page.wait_for_url("**expanded=*")
    # Which groups are open is in the URL now; a page that opens fits the graph to its width.
    page.reload()
    expect(page.get_by_role("img", name="unfold_less").first).to_be_attached(timeout=60_000)
    page.mouse.move(0, 0)
    page.wait_for_timeout(2_000)
