"""Run shards on Dask and collect their receipts: one pool for all scenes of a run.

A shard is one task. It asks for half of a worker's ``GPU`` resource, so that two shards are on a
worker at once, one reading or writing while the other predicts. Each worker predicts in one
dedicated thread: one shard at a time, and always the same thread calls the kernels' thread pool.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import uuid
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from distributed import Client, Future, Worker, WorkerPlugin, get_worker
from distributed.scheduler import KilledWorker

from geoforest._version import __version__
from geoforest.compute.cluster import (
    GPU,
    SHARDS_AT_ONCE,
    Cluster,
    check_versions,
    gpu_workers,
    remote_threads,
    wait_until_started,
)
from geoforest.compute.machine import peak_memory_mb, share_one_heap
from geoforest.errors import (
    GeoforestError,
    IncompleteError,
    InputError,
    OutputError,
    SceneError,
    WriteError,
)
from geoforest.pipeline.runtime import Runtime, resolve_runtime
from geoforest.pipeline.shard import run_shard
from geoforest.scenes.read import release
from geoforest.scenes.sight import first_difference, look_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from geoforest.arrays.grid import Shard
    from geoforest.arrays.predict import Predictor
    from geoforest.models.bundle import Bundle
    from geoforest.pipeline.job import Job
    from geoforest.pipeline.settings import MapSettings
    from geoforest.pipeline.shard_store import Receipt, ShardStore
    from geoforest.scenes.sight import Sight

# Shards in flight per worker: enough to keep it busy, and a bound on what the scheduler holds,
# however large the mosaic.
_IN_FLIGHT = 4
# Shards waiting per worker, so that it has work while the products of a scene are made.
_AHEAD = 64
# Tries per shard before it has failed for good.
_TRIES = 2
# Interval at which workers are counted: clusters grow and shrink.
_COUNT_SECONDS = 5.0
# Workers report the windows of a shard under this topic, not more often than people read. One topic
# for all runs, since a scheduler remembers each topic for good.
_TOPIC = "geoforest-windows"
_REPORT_SECONDS = 0.5


T = TypeVar("T")


@dataclass(frozen=True)
class Done:
    """Outcome of a shard: its receipt, or the reason of its failure.

    Attributes
    ----------
    fatal
        True when other shards of the scene would fail for the same reason, such as a full disk.
    killed
        True when workers died while they processed it.
    """

    job: Job
    shard: Shard
    receipt: Receipt | None = None
    reason: str = ""
    fatal: bool = False
    killed: bool = False


@dataclass(frozen=True)
class _Underway:
    """Number of windows of a shard that a worker has predicted so far."""

    job: str
    shard: str
    n_windows: int


class Pool:
    """Pool of workers that processes shards, a bounded number at a time, and returns receipts.

    It is a context manager, and starts its workers when the first shard is added. When an
    exception leaves it, running shards stop after their current batch.
    """

    def __init__(self, cluster: Cluster | None = None) -> None:
        self.cluster = cluster or Cluster()
        self._name = f"geoforest-{uuid.uuid4().hex[:12]}"
        self._stack = ExitStack()
        self._client: Client | None = None
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Job, Shard]] = deque()
        self._running: dict[Future[Any], tuple[Job, Shard]] = {}
        self._failed: Counter[tuple[str, str]] = Counter()
        self._plugins: list[str] = []
        self._listeners: dict[str, Callable[[str, int], None]] = {}
        self._done: SimpleQueue[Done | _Underway] = SimpleQueue()
        self._workers = 1
        self._checked: set[str] = set()
        self._counted = 0.0
        self._closed = self._lost = False

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._closed = True
            self._waiting.clear()
            running = list(self._running)
        if error is not None:
            _stopped.add(self._name)
        try:
            if self._client is not None and running:
                # A shared cluster would otherwise go on with them.
                self._client.cancel(running, force=True)
            for name in self._plugins[::-1] if self.cluster.scheduler else ():
                self._unregister(name)
        except Exception:  # the connection to the scheduler may be lost
            logging.getLogger(__name__).debug("the cluster cannot be tidied", exc_info=True)
        finally:
            self._stack.close()
            _stopped.discard(self._name)

    @property
    def hungry(self) -> bool:
        """Whether more shards should be added now, so that no worker runs out of them."""
        return len(self._waiting) < _AHEAD * self._workers

    def resolve_runtime(
        self, settings: MapSettings, bundle: Bundle, *, measured: bool = True
    ) -> Runtime:
        """Choose the runtime; on a worker, when the workers are other machines than this one.

        Parameters and errors as for :func:`geoforest.pipeline.runtime.resolve_runtime`.
        """
        if self.cluster.scheduler is None:
            return resolve_runtime(settings, bundle, self.cluster.threads, measured=measured)
        client = self._connected()
        threads = remote_threads(client)
        future = client.submit(
            _call,
            resolve_runtime,
            settings,
            bundle,
            threads,
            measured=measured,
            # All of a worker: nothing else may run while it is timed.
            resources={GPU: 1},
            pure=False,
        )
        runtime: Runtime = future.result()
        return runtime

    def add(
        self,
        job: Job,
        store: ShardStore,
        shards: Iterable[Shard],
        on_windows: Callable[[str, int], None],
    ) -> None:
        """Queue shards of a job, in the order of processing.

        ``on_windows`` is called inside :meth:`get` with the name of a shard that is being
        predicted, and the number of its windows that are done.

        Raises
        ------
        GeoforestError
            When a worker cannot load the model or reach the work folder, or sees other nodata,
            masks or sizes in the scene's files than this process.
        """
        self._listeners[_job_name(self._name, job)] = on_windows
        # Other processes on this machine have its files, GDAL and environment.
        seen = look_at(job.scene) if self.cluster.scheduler else None
        self._register(_JobPlugin(self._name, job, store, seen))
        with self._lock:
            self._waiting.extend((job, shard) for shard in shards)
        self._fill()

    def get(self) -> Done:
        """Wait for the next shard to be done or to have failed for good.

        Raises
        ------
        IncompleteError
            When the connection to the scheduler is lost.
        InputError
            When a worker has joined whose geoforest is missing or of another version.
        """
        while True:
            try:
                item = self._done.get(timeout=1.0)
            except Empty:
                if self._lost or self._connected().status not in {"running", "connecting"}:
                    raise _lost() from None
                self._check_newcomers()
                # Workers may have joined meanwhile.
                self._fill()
                continue
            if isinstance(item, Done):
                if item.receipt is None:
                    self._check_newcomers()
                return item
            if item.job in self._listeners:
                self._listeners[item.job](item.shard, item.n_windows)

    def _check_newcomers(self) -> None:
        """Refuse workers of another version that have joined since the last call."""
        if self.cluster.scheduler is None:
            return
        client = self._connected()
        # `get` reports a connection that is lost now; a lost client knows no workers.
        with suppress(OSError, KeyError):
            new = gpu_workers(client).keys() - self._checked
            if new:
                check_versions(client, new)
                self._checked |= new

    def drop(self, job: Job) -> int:
        """Drop a job's queued shards; return how many there were."""
        with self._lock:
            before = len(self._waiting)
            self._waiting = deque(item for item in self._waiting if item[0] is not job)
            return before - len(self._waiting)

    def forget(self, job: Job) -> None:
        """Free the memory that workers hold for a job without queued or running shards."""
        name = _job_name(self._name, job)
        self._listeners.pop(name, None)
        if name in self._plugins:
            self._plugins.remove(name)
            self._unregister(name)

    def _connected(self) -> Client:
        if self._client is None:
            self._client = self._stack.enter_context(self.cluster.client())
            self._client.subscribe_topic(_TOPIC, self._hear)
            self._register(_WorkerPlugin(self._name))
        return self._client

    def _hear(self, event: tuple[float, Any]) -> None:
        job, shard, n_windows = event[1]
        # A shared scheduler has the events of other runs, too.
        if job.startswith(self._name):
            self._done.put(_Underway(job, shard, n_windows))

    def _register(self, plugin: _WorkerPlugin | _JobPlugin) -> None:
        client = self._connected()
        # Before registering: when one worker refuses it, others already have it.
        self._plugins.append(plugin.name)
        if self.cluster.scheduler:
            wait_until_started(client)
        for again in (True, False):
            try:
                client.register_plugin(plugin)
                break
            except OSError as error:
                # When one worker dies during the call, the call fails for all.
                if not again:
                    raise _lost() from error
            except GeoforestError:
                raise
            except Exception as error:  # the setup on a worker may fail in any way
                if self.cluster.scheduler is None:
                    raise
                check_versions(client, gpu_workers(client))
                reason = " ".join(str(error).split())
                raise InputError(f"a worker cannot be set up for the run ({reason})") from error

    def _unregister(self, name: str) -> None:
        # The worker may have died, and a new scheduler does not know the plugin.
        with suppress(OSError, ValueError):
            self._connected().unregister_worker_plugin(name)

    def _fill(self) -> None:
        """Submit queued shards, up to the limit in flight."""
        client = self._connected()
        added = []
        with self._lock:
            if time.monotonic() - self._counted > _COUNT_SECONDS:
                self._counted = time.monotonic()
                # `get` reports a connection that is lost now.
                with suppress(OSError):
                    self._workers = max(1, len(gpu_workers(client)))
            while self._waiting and len(self._running) < _IN_FLIGHT * self._workers:
                job, shard = self._waiting.popleft()
                future = self._submit(client, job, shard)
                self._running[future] = job, shard
                added.append(future)
        for future in added:
            future.add_done_callback(self._take)

    def _submit(self, client: Client, job: Job, shard: Shard) -> Future[Any]:
        name = _job_name(self._name, job)
        return client.submit(
            _shard_task,
            __version__,
            name,
            shard,
            # A key per try: Dask may still remember the key of the try that failed.
            key=(name, shard.row, shard.col, self._failed[name, shard.name]),
            resources={GPU: 1 / SHARDS_AT_ONCE},
            pure=False,
        )

    def _take(self, future: Future[Any]) -> None:
        with self._lock:
            job, shard = self._running.pop(future)
            if self._closed:
                return
        if future.status in {"cancelled", "lost"}:
            # Only a lost scheduler causes this.
            self._lost = True
            return
        done = _done(job, shard, future)
        # Dask itself has retried a shard whose workers died.
        final = done.fatal or done.receipt is not None or done.killed
        future.release()
        if not final and self._may_try_again(job, shard):
            with self._lock:
                self._waiting.appendleft((job, shard))
        else:
            self._done.put(done)
        self._fill()

    def _may_try_again(self, job: Job, shard: Shard) -> bool:
        tried = _job_name(self._name, job), shard.name
        self._failed[tried] += 1
        return self._failed[tried] < _TRIES


def _done(job: Job, shard: Shard, future: Future[Any]) -> Done:
    try:
        return Done(job, shard, receipt=future.result())
    except GeoforestError as error:
        return Done(job, shard, reason=str(error), fatal=isinstance(error, WriteError))
    except KilledWorker as error:
        died = error.allowed_failures + 1
        reason = f"{died} workers died over it: killed, or out of memory"
        return Done(job, shard, reason=reason, killed=True)
    except BaseException as error:  # noqa: BLE001 (a future raises what the task raised; CancelledError is no Exception)
        return Done(job, shard, reason=f"{type(error).__name__}: {error}")


_stopped: set[str] = set()
"""Names of interrupted pools of this process, for their in-process worker."""


class _WorkerPlugin(WorkerPlugin):
    """Prediction thread of a worker, and the model it has loaded."""

    def __init__(self, name: str) -> None:
        self.name = name

    def setup(self, worker: Worker) -> None:  # noqa: ARG002 (Dask's signature)
        share_one_heap()
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="geoforest-predict")
        self._predictors: dict[tuple[Any, ...], Predictor] = {}

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002 (Dask's signature)
        self.thread.shutdown(wait=False)

    def predictor(self, job: Job) -> Predictor:
        """Return the loaded model of a job; call it in the prediction thread."""
        bundle, runtime = job.bundle, job.runtime
        key = (
            job.load_predictor,
            bundle.sha256,
            bundle.card.temperature,
            (runtime.name, runtime.precision, runtime.device, runtime.threads),
        )
        if key not in self._predictors:
            # A run has one model: another model means another run, and the old one is dropped.
            self._predictors = {key: job.load_predictor(job)}
        return self._predictors[key]


class _JobPlugin(WorkerPlugin):
    """What a worker needs for the shards of one job."""

    def __init__(self, pool: str, job: Job, store: ShardStore, seen: Sight | None) -> None:
        self.name = _job_name(pool, job)
        self.pool, self.job, self.store, self.seen = pool, job, store, seen

    async def setup(self, worker: Worker) -> None:
        if not worker.state.total_resources.get(GPU):
            return
        recorded = self.store.read_job() or {}
        if recorded.get("fingerprint") != self.store.fingerprint:
            raise OutputError(
                f"{self.store.folder}: worker {worker.address} does not find this run's work "
                "folder there; --out, or GEOFOREST_WORK for one in a bucket, has to be on storage "
                "that all workers share"
            )
        self.worker, self.reported = worker, 0.0
        shared = worker.plugins[self.pool]
        assert isinstance(shared, _WorkerPlugin)
        self.thread = shared.thread
        await asyncio.wrap_future(self.thread.submit(_call, self._check_sight, worker.address))
        # Loading in the event loop would block it for seconds, and the worker would count as lost.
        predictor = await asyncio.wrap_future(self.thread.submit(shared.predictor, self.job))
        self.predictor: Predictor = predictor

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002 (Dask's signature)
        release(self.job.scene)

    def _check_sight(self, address: str) -> None:
        if self.seen is None:
            return
        try:
            difference = first_difference(look_at(self.job.scene), self.seen)
        except GeoforestError as error:
            raise type(error)(f"worker {address}: {error}") from error
        if difference is not None:
            raise SceneError(
                f"worker {address} sees another scene than the machine of the run: {difference}; "
                "the same files were wanted on both, and the same GDAL"
            )

    def run(self, shard: Shard) -> Receipt:
        # A worker may have died after it had committed this shard.
        if kept := self.store.load(shard):
            receipt = kept[1]
        else:
            receipt = run_shard(
                self.job,
                shard,
                self.predictor,
                self.store,
                thread=self.thread,
                is_interrupted=lambda: self.pool in _stopped,
                on_windows=partial(self._report, shard),
            )
        return replace(receipt, peak_memory_mb=peak_memory_mb())

    def _report(self, shard: Shard, n_windows: int) -> None:
        """Send the number of windows done to the client, at most twice per second."""
        now = time.monotonic()
        if now - self.reported >= _REPORT_SECONDS:
            self.reported = now
            self.worker.log_event(_TOPIC, (self.name, shard.name, n_windows))


def _job_name(pool: str, job: Job) -> str:
    # Interned, since Dask remembers the keys of many tasks.
    return sys.intern(f"{pool}-{job.scene.scene_id}-{job.fingerprint[:12]}")


def _lost() -> IncompleteError:
    return IncompleteError(
        "the connection to the scheduler was lost; finished shards are kept, and the same command "
        "goes on from there"
    )


def _shard_task(version: str, plugin_name: str, shard: Shard) -> Receipt:
    if version != __version__:
        # A worker that has joined a moment ago.
        raise IncompleteError(f"geoforest {__version__} on a worker, {version} was wanted")
    plugin = get_worker().plugins[plugin_name]
    assert isinstance(plugin, _JobPlugin)
    return _call(plugin.run, shard)


def _call(function: Callable[..., T], *args: Any, **options: Any) -> T:
    """Call a function on a worker, so that its errors can be sent to the client."""
    try:
        return function(*args, **options)
    except GeoforestError as error:
        # Causes such as GDAL's errors cannot be pickled, and the message would be lost with them:
        # raise a copy without a cause.
        alone = type(error)(*error.args)
    raise alone
