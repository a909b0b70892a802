"""Dask clients that shards run on: this process, local processes, or any Dask cluster."""

from __future__ import annotations

import logging
import os
import pkgutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import dask
from distributed import Client, LocalCluster, Nanny, Scheduler, SpecCluster

from geoforest._version import __version__
from geoforest.compute.machine import usable_cores
from geoforest.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SHARDS_AT_ONCE: Final = 2
"""Shards at once on one worker: one is read or written while the other is predicted."""

GPU = "GPU"
"""Resource that all workers declare, CPU workers too, so that one graph runs everywhere."""
_LOOPBACK = "127.0.0.1"
_JOIN_SECONDS = 30
# Local processes load Python and torch, all at the same time.
_START_SECONDS = 300
_CONFIG = {
    # A shard blocks a worker's event loop for seconds, which Dask would warn of.
    "distributed.admin.tick.limit": "1h",
    # At Dask's default intervals its own monitoring takes a twentieth of a core.
    "distributed.admin.tick.interval": "5s",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.worker.profile.enabled": False,
    # Memory is bounded by the size of a shard; results are a few hundred bytes.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
}
# Statuses of a worker that starts, or that has failed to.
_NOT_YET = {"init", "closing", "failed", "undefined"}
# Share of its memory limit at which a process is replaced.
_TERMINATE = 0.98


@dataclass(frozen=True)
class Cluster:
    """Processes that a run computes in.

    Attributes
    ----------
    workers
        Processes on this machine; 0 computes in this process.
    scheduler
        Address of a Dask scheduler, such as ``tcp://host:8786``; replaces ``workers``.
    max_memory
        Bytes that a local process may use before it is replaced; None for no limit.
    """

    workers: int = 0
    scheduler: str | None = None
    max_memory: int | None = None

    @property
    def threads(self) -> int:
        """Threads of one local worker's kernels: the cores of this machine, divided by workers."""
        return max(1, usable_cores() // max(1, self.workers))

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Open a client with at least one worker that declares the resource ``GPU``.

        Raises
        ------
        InputError
            When the scheduler does not answer, no worker declares ``GPU``, or geoforest is missing
            or of another version on the scheduler or a worker.
        """
        with dask.config.set(self._config):
            if self.scheduler is not None:
                with _connected(self.scheduler) as client:
                    yield client
            elif self.workers:
                with self._processes() as cluster, Client(cluster) as client:
                    self._wait(client)
                    yield client
            else:
                with _in_process() as cluster, Client(cluster) as client:
                    yield client

    def _wait(self, client: Client) -> None:
        try:
            client.wait_for_workers(self.workers, timeout=_START_SECONDS)
        except TimeoutError as error:
            raise InputError(
                f"--workers {self.workers}: {len(gpu_workers(client))} of them started within "
                f"{_START_SECONDS} s; give fewer, or more --max-memory"
            ) from error

    @property
    def _config(self) -> dict[str, Any]:
        # The nanny, which replaces a worker, runs in this process and reads this configuration.
        terminate = _TERMINATE if self.max_memory else False
        return {**_CONFIG, "distributed.worker.memory.terminate": terminate}

    def _processes(self) -> SpecCluster:
        devices = _cuda_devices()
        options: dict[str, Any] = {
            "host": _LOOPBACK,
            "nthreads": SHARDS_AT_ONCE,
            "resources": {GPU: 1},
            "dashboard_address": f"{_LOOPBACK}:0",
            "memory_limit": self.max_memory or 0,
            "silence_logs": logging.CRITICAL,
            "config": self._config,
        }
        workers = {}
        for index in range(self.workers):
            # One CUDA device per process, in turn.
            env = {"CUDA_VISIBLE_DEVICES": devices[index % len(devices)]} if devices else {}
            workers[index] = {"cls": Nanny, "options": {**options, "env": env}}
        return SpecCluster(
            scheduler={
                "cls": Scheduler,
                "options": {
                    "host": _LOOPBACK,
                    "port": 0,
                    "dashboard": False,
                    "dashboard_address": f"{_LOOPBACK}:0",
                },
            },
            workers=workers,
            silence_logs=logging.CRITICAL,
        )


def gpu_workers(client: Client) -> dict[str, str]:
    """Return the host of each running worker that declares the resource, by its address."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return {
        address: worker["host"]
        for address, worker in workers.items()
        if worker["resources"].get(GPU, 0) > 0 and worker["status"] == "running"
    }


def wait_until_started(client: Client) -> None:
    """Wait for workers that are just starting.

    One that cannot load the plugins of a run, because it has no geoforest, never starts, and
    answers no call.

    Raises
    ------
    InputError
        When a worker does not start.
    """
    deadline = time.monotonic() + _JOIN_SECONDS
    while True:
        workers = client.scheduler_info(n_workers=-1)["workers"]
        starting = [one for one, worker in workers.items() if worker["status"] in _NOT_YET]
        if not starting:
            return
        if time.monotonic() > deadline:
            raise InputError(
                f"worker {starting[0]} does not start within {_JOIN_SECONDS} s (its log says why); "
                f"geoforest {__version__} was wanted on every worker"
            )
        time.sleep(0.2)


def check_versions(client: Client, workers: Iterable[str] | None = None) -> None:
    """Check that scheduler and workers have this version of geoforest.

    Parameters
    ----------
    client
        Client of a running cluster.
    workers
        Addresses of the workers to ask; by default the scheduler and all workers.

    Raises
    ------
    InputError
        When geoforest is missing there or of another version; gives the versions.
    """
    # By a function of the standard library: geoforest's own could not be loaded there.
    wanted = "geoforest:__version__"
    asked = None if workers is None else list(workers)
    answers = client.run(pkgutil.resolve_name, wanted, workers=asked, on_error="return")
    found = {
        f"worker {address}": _version_in(answer)
        for address, answer in answers.items()
        # A worker that has just died has no version.
        if not isinstance(answer, OSError)
    }
    if workers is None:
        try:
            answer = client.run_on_scheduler(pkgutil.resolve_name, wanted)
        except Exception as error:  # noqa: BLE001 (an import there may fail for any reason)
            answer = error
        found["the scheduler"] = _version_in(answer)
    other = {where: version for where, version in found.items() if version != __version__}
    if other:
        where, version = next(iter(other.items()))
        more = f" and {len(other) - 1} more" if len(other) > 1 else ""
        address = client.scheduler.address if client.scheduler else ""
        raise InputError(
            f"--scheduler {address}: {where}{more} has {version}, this machine geoforest "
            f"{__version__}; the same version was wanted on the scheduler and on every worker"
        )


def _version_in(answer: Any) -> str:
    if isinstance(answer, ModuleNotFoundError) and answer.name == "geoforest":
        return "no geoforest"
    if isinstance(answer, BaseException):
        return f"a geoforest that cannot be loaded ({' '.join(str(answer).split())})"
    return str(answer) if answer == __version__ else f"geoforest {answer}"


def remote_threads(client: Client) -> int:
    """Return the threads of each worker's kernels: the cores of a host, divided by its workers."""
    hosts = gpu_workers(client)
    cores = client.run(usable_cores, workers=list(hosts))
    alike = list(hosts.values())
    shares = [int(cores[address]) // alike.count(host) for address, host in hosts.items()]
    return max(1, min(shares))


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    try:
        client = Client(address, timeout=_JOIN_SECONDS)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(
            f"--scheduler {address}: no Dask scheduler answers there ({error}); start one with "
            "`dask scheduler` and workers with `dask worker ADDRESS --resources GPU=1`"
        ) from error
    with client:
        deadline = time.monotonic() + _JOIN_SECONDS
        while not gpu_workers(client):
            if time.monotonic() > deadline:
                count = len(client.scheduler_info(n_workers=-1)["workers"])
                raise InputError(
                    f"--scheduler {address}: {count} workers, none of which declares the resource "
                    f"{GPU} within {_JOIN_SECONDS} s; start them with "
                    f"`dask worker {address} --resources GPU=1`, on CPUs, too"
                )
            time.sleep(0.2)
        wait_until_started(client)
        check_versions(client)
        yield client


def _in_process() -> LocalCluster:
    return LocalCluster(
        n_workers=1,
        processes=False,
        threads_per_worker=SHARDS_AT_ONCE,
        resources={GPU: 1},
        # Dask serves its state over HTTP: on this machine only, on any free port.
        scheduler_kwargs={"dashboard": False, "dashboard_address": f"{_LOOPBACK}:0"},
        worker_dashboard_address=f"{_LOOPBACK}:0",
        silence_logs=logging.CRITICAL,
    )


def _cuda_devices() -> list[str]:
    """List the devices in the form of CUDA_VISIBLE_DEVICES; on a shared machine, this job's."""
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[:count]
    return visible if visible != [""] else [str(index) for index in range(count)]
