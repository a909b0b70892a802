"""Dask: shards in, receipts out. One path for a laptop and for a cluster.

A shard is one task. It asks for half of a worker's ``GPU`` resource, so that two shards are on a
worker at once, one reading or writing while the other predicts. Prediction runs in a thread of
its own, one per worker: nothing is predicted twice at a time, and the kernels' thread pool is
always called from the same thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import dask
import numpy as np
from distributed import Client, Future, LocalCluster, WorkerPlugin, as_completed, get_worker
from numpy.typing import NDArray

from geoforest.errors import GeoforestError, IncompleteError
from geoforest.grid import Shard
from geoforest.io.shards import Receipt, ShardStore
from geoforest.job import Job, PredictShard, run_shard, shard_predictor
from geoforest.predict import Factor, Predictor
from geoforest.types import Array, StoredProbability, Valid

_PLUGIN = "geoforest-job"
# Shards a worker has at a time, and shards a worker may have in flight: enough to keep it busy,
# few enough that the scheduler never holds more than this, however large the mosaic.
_SHARDS_AT_ONCE = 2
_IN_FLIGHT = 4
_LOOPBACK = "127.0.0.1:0"


@dataclass
class Outcome:
    """What became of the shards: a receipt, or a reason."""

    receipts: dict[str, Receipt] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def run_shards(
    job: Job,
    shards: Sequence[Shard],
    store: ShardStore,
    *,
    on_receipt: Callable[[Receipt], None] = lambda receipt: None,
    retries: int = 1,
) -> Outcome:
    """Run shards on Dask and collect their receipts.

    Parameters
    ----------
    job
        Sent to each worker once.
    shards
        In the order they are to be taken.
    store
        Where workers commit their shards.
    on_receipt
        Called in this process as each shard finishes.
    retries
        Further tries of a shard that failed.

    Returns
    -------
    Outcome
        A shard that failed for good does not stop the others.
    """
    outcome = Outcome()
    if not shards:
        return outcome
    with _local_client() as client, _stopping():
        client.register_plugin(_JobPlugin(job, store))
        workers = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
        waiting = iter(shards)

        def submit() -> Future | None:
            shard = next(waiting, None)
            if shard is None:
                return None
            return client.submit(
                _shard_task,
                shard,
                key=shard.name,
                resources={"GPU": 1 / _SHARDS_AT_ONCE},
                retries=retries,
                pure=False,
            )

        first = [future for _ in range(_IN_FLIGHT * workers) if (future := submit()) is not None]
        running = as_completed(first)
        for future in running:
            if future.status == "finished":
                receipt = future.result()
                outcome.receipts[receipt.shard] = receipt
                on_receipt(receipt)
            else:
                outcome.failures[future.key] = _reason(future)
            future.release()
            if (following := submit()) is not None:
                running.add(following)
    return outcome


_stop = threading.Event()


@contextmanager
def _stopping() -> Iterator[None]:
    """Let an interrupted run end after the window at hand, and not after the shards at hand."""
    _stop.clear()
    try:
        yield
    except BaseException:
        _stop.set()
        raise


class _Stoppable:
    """A predictor that gives up once the run is interrupted."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def __call__(
        self, dn: Array, scale: Factor = 1e-4, offset: Factor = 0.0, valid: Valid | None = None
    ) -> NDArray[np.float32]:
        if _stop.is_set():
            raise IncompleteError("interrupted")
        return self._predictor(dn, scale=scale, offset=offset, valid=valid)


class _JobPlugin(WorkerPlugin):
    """Holds the job, the model and the prediction thread of a worker."""

    name = _PLUGIN

    def __init__(self, job: Job, store: ShardStore) -> None:
        self.job, self.store = job, store

    def setup(self, worker: object) -> None:
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="geoforest-predict")
        predictor = self.thread.submit(self.job.load_predictor, self.job).result()
        self.predict: PredictShard = shard_predictor(self.job, _Stoppable(predictor))

    def teardown(self, worker: object) -> None:
        self.thread.shutdown()

    def run(self, shard: Shard) -> Receipt:
        def in_thread(
            dn: Array, valid: Valid, wanted: Valid
        ) -> tuple[StoredProbability, int, float]:
            return self.thread.submit(self.predict, dn, valid, wanted).result()

        return run_shard(self.job, shard, in_thread, self.store)


def _shard_task(shard: Shard) -> Receipt:
    plugin = get_worker().plugins[_PLUGIN]
    try:
        receipt: Receipt = plugin.run(shard)  # type: ignore[attr-defined]
        return receipt
    except GeoforestError as error:
        # Causes such as GDAL's errors do not travel to the scheduler, and would take the sentence
        # with them; it is made to stand alone.
        told = type(error)(*error.args)
    raise told


def _reason(future: Future) -> str:
    error = future.exception()
    if isinstance(error, GeoforestError):
        return str(error)
    return f"{type(error).__name__}: {error}"


@contextmanager
def _local_client() -> Iterator[Client]:
    """One worker inside this process."""
    quiet = {
        # A shard holds a worker's event loop for seconds at a time by design.
        "distributed.admin.tick.limit": "1h",
        # Memory is bounded by the size of a shard; results are a few hundred bytes.
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": False,
    }
    with (
        dask.config.set(quiet),
        LocalCluster(
            n_workers=1,
            processes=False,
            threads_per_worker=_SHARDS_AT_ONCE,
            resources={"GPU": 1},
            # Dask serves its state over HTTP: on this machine only, on whatever port is free.
            scheduler_kwargs={"dashboard": False, "dashboard_address": _LOOPBACK},
            worker_dashboard_address=_LOOPBACK,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
