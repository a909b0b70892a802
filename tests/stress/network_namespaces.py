"""A scheduler and two workers on three hosts of one machine, one of them cut off for a while.

    sudo python -m tests.stress.network_namespaces [--seconds 20]

Hosts are network namespaces on a bridge (iproute2, root). The worker that is cut off loses its
connection; its shards go to the other one, it comes back and takes new ones, and the result is that
of an undisturbed run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from geoforest.models.bundle import save_bundle
from geoforest.models.unet import build_unet
from tests.helpers import faulty, synthetic
from tests.helpers.drivers import ROOT, finished_bytes
from tests.helpers.jobs import products

BRIDGE = "gf-bridge"
SCHEDULER = "tcp://10.99.0.1:8786"
HOSTS = ("gf-a", "gf-b")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextlib.contextmanager
def network() -> Iterator[None]:
    """This machine at 10.99.0.1, and a namespace a host at 10.99.0.2 and up."""
    try:
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("addr", "add", "10.99.0.1/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        for number, host in enumerate(HOSTS, start=2):
            ip("netns", "add", host)
            ip("link", "add", f"{host}-out", "type", "veth", "peer", "name", f"{host}-in")
            ip("link", "set", f"{host}-in", "netns", host)
            ip("link", "set", f"{host}-out", "master", BRIDGE, "up")
            ip("-n", host, "addr", "add", f"10.99.0.{number}/24", "dev", f"{host}-in")
            ip("-n", host, "link", "set", f"{host}-in", "up")
            ip("-n", host, "link", "set", "lo", "up")
        yield
    finally:
        for host in HOSTS:
            subprocess.run(["ip", "netns", "del", host], check=False)
        subprocess.run(["ip", "link", "del", BRIDGE], check=False)


@contextlib.contextmanager
def process(*words: object, host: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a module of Python; on a host it is started again whenever it ends, as by systemd."""
    again = 'while true; do "$@"; sleep 1; done'
    inside = ["ip", "netns", "exec", host, "sh", "-c", again, "sh"] if host else []
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "FAULTY_SECONDS": "0.8",
        # A host that is gone is missed after this long.
        "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "10s",
        "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s",
    }
    started = subprocess.Popen(
        [*inside, sys.executable, *map(str, words)],
        cwd=ROOT,
        env=environment,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    arguments = parser.parse_args()
    if os.geteuid() != 0 or shutil.which("ip") is None:
        print("skipped: needs root and iproute2")
        return
    with TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        scene = synthetic.write_raster(
            folder / "scene.tif", synthetic.digital_numbers((480, 480)), nodata=0
        )
        torch.manual_seed(0)
        model = folder / "model"
        save_bundle(model, build_unet("mobilenet_v2", 4).state_dict(), synthetic.card())
        whole = products(faulty.run(scene, folder / "whole", model))
        log = folder / "log"
        os.environ["FAULTY_LOG"] = str(log)
        stack.enter_context(network())
        stack.enter_context(
            process("-m", "distributed.cli.dask_scheduler", "--host", "10.99.0.1", "--port", 8786,
                    "--no-dashboard")
        )  # fmt: skip
        for host in HOSTS:
            stack.enter_context(
                process("-m", "distributed.cli.dask_worker", SCHEDULER, "--nthreads", 2,
                        "--resources", "GPU=1", "--no-dashboard", "--no-nanny", host=host)
            )  # fmt: skip
        out = folder / "out"
        driver = stack.enter_context(
            process(
                "-m", "tests.helpers.faulty", scene, out, model, f'{{"scheduler": "{SCHEDULER}"}}'
            )
        )
        shards = out / "scene" / ".geoforest-work" / "shards"
        while len(list(shards.glob("r*.tif"))) < 5:
            assert driver.poll() is None
            time.sleep(0.1)
        ip("link", "set", f"{HOSTS[0]}-out", "down")
        print(f"{HOSTS[0]} is cut off with {len(list(shards.glob('r*.tif')))} shards finished")
        time.sleep(arguments.seconds)
        ip("link", "set", f"{HOSTS[0]}-out", "up")
        before = set(log.read_text().split())
        print(f"and back with {len(list(shards.glob('r*.tif')))}, by {len(before)} processes")
        assert driver.wait(300) == 0
        assert finished_bytes(out / "scene") == whole
        after = set(log.read_text().split())
        assert after > before, "the worker that came back has done nothing"
        print(f"same bytes, by {len(after)} processes")


if __name__ == "__main__":
    main()
