"""A job: everything that decides the pixels of a map, its fingerprint, and one shard's work."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geoforest.area import PixelTable
from geoforest.config import MapSettings
from geoforest.errors import IncompleteError, InputError
from geoforest.grid import Grid, Shard, preview_lattice, shard_cores
from geoforest.io.aoi import AreaOfInterest, read_aoi
from geoforest.io.geotiff import CACHE_BYTES, read
from geoforest.io.open import open_scene
from geoforest.io.shards import Receipt, ShardStore
from geoforest.machine import reference_precision, resident_memory_mb
from geoforest.memory import fitting_shard
from geoforest.models.bundle import Bundle
from geoforest.predict import Factor, Predictor, predict_shard
from geoforest.reflectance import BandStatistics
from geoforest.scene import Scene
from geoforest.types import Array, StoredProbability, Valid

FORMAT_VERSION: Final = 1
_SHARD_PX = 1792
SHARDS_AT_ONCE: Final = 2
"""On a worker: one is read or written while the other is predicted."""


@dataclass(frozen=True)
class ShardPrediction:
    """What a worker's predictor made of a shard.

    Attributes
    ----------
    stored
        uint8, the shape of the shard.
    n_windows
        Windows predicted.
    seconds
        By stage: predict, stitch.
    halved
        Whether the device ran out of memory, and batches were done in halves.
    """

    stored: StoredProbability
    n_windows: int
    seconds: dict[str, float]
    halved: bool


PredictShard = Callable[[Array, Valid, Valid], ShardPrediction]
"""Called with ``dn, valid, wanted``, see :func:`geoforest.predict.predict_shard`."""


@dataclass(frozen=True)
class Runtime:
    """What computes: resolved once per job, and used by every worker and every resume.

    Attributes
    ----------
    name
        ``torch`` or ``openvino``.
    device
        ``cpu``, ``cuda`` or ``cuda:1``. Which CUDA device it is changes no result.
    precision
        Of the network's arithmetic: ``float32``, ``bfloat16``, ``float16`` or ``int8``.
    threads
        Threads of a worker's CPU kernels.
    batch_size
        Windows a call.
    agreement
        Share of check pixels with the same mask as torch in float32; None where not measured.
    asked
        The settings that this answers: runtime, precision, device, batch size.
    """

    name: str
    device: str
    precision: str
    threads: int
    batch_size: int
    agreement: float | None = None
    asked: tuple[Any, ...] = ()

    @classmethod
    def recorded_in(cls, document: Mapping[str, Any]) -> Runtime | None:
        """Take up what an earlier run resolved; None where its ``job.json`` does not say so."""
        try:
            record = document["runtime"]
            return cls(**{**record, "asked": tuple(record["asked"])})
        except (KeyError, TypeError):  # of another version
            return None


def load_job_predictor(job: Job) -> Predictor:
    """Load a job's bundle into its runtime."""
    from geoforest.models.runtimes import load

    runtime = job.runtime
    return load(
        job.bundle,
        runtime=runtime.name,
        precision=runtime.precision,
        device=runtime.device,
        threads=runtime.threads,
    )


@dataclass(frozen=True)
class Job:
    """One scene to be mapped with one model. Small, and travels to workers."""

    scene: Scene
    grid: Grid
    bundle: Bundle
    runtime: Runtime
    aoi: AreaOfInterest | None = None
    load_predictor: Callable[[Job], Predictor] = load_job_predictor

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that changes a pixel of the stored probability."""
        card = self.bundle.card
        return {
            "format_version": FORMAT_VERSION,
            "model": {
                "weights_sha256": self.bundle.sha256,
                "architecture": card.architecture,
                "encoder": card.encoder,
                "bands": list(card.bands),
                "mean": list(card.mean),
                "std": list(card.std),
                "reflectance_scale": card.reflectance_scale,
                "temperature": card.temperature,
            },
            "files": [list(stamp) for stamp in self.scene.files],
            "bands": [
                [band.name, band.path, band.index, _plain(band.nodata), band.mask_index]
                for band in self.scene.bands
            ],
            "scale": list(self.scene.scale),
            "offset": list(self.scene.offset),
            "zero_is_nodata": self.scene.zero_is_nodata,
            "aoi": self.aoi.digest if self.aoi else None,
            "window": self.grid.window,
            "halo": self.grid.halo,
            "batch_size": self.runtime.batch_size,
            "runtime": [
                f"{self.load_predictor.__module__}.{self.load_predictor.__qualname__}",
                self.runtime.name,
                self.runtime.device.partition(":")[0],
                self.runtime.precision,
            ],
        }

    @cached_property
    def fingerprint(self) -> str:
        """Hash of :attr:`identity`."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()

    def record(self, settings: MapSettings) -> dict[str, Any]:
        """Give what another run of this job has to know of this one, as it stands in a file."""
        return {
            "fingerprint": self.fingerprint,
            "identity": self.identity,
            "runtime": vars(self.runtime),
            "shard_cores": self.grid.shard_cores,
            "shard_asked": [settings.shard, settings.max_memory],
        }

    def plan(self) -> list[Shard]:
        """List the shards of the scene in row order, those beside the area of interest left out."""
        if self.aoi is None:
            return list(self.grid.shards())
        return [shard for shard in self.grid.shards() if self.inside(shard).any()]

    def windows(self, shard: Shard) -> int:
        """Count the windows of a shard that the area of interest touches."""
        cores = self.grid.cores(shard.extent)
        return sum(self.aoi is None or self.aoi.touches(core) for core in cores)

    def inside(self, shard: Shard) -> Valid:
        """Pixels of a shard inside the area of interest; all where there is none."""
        if self.aoi is None:
            return np.ones(shard.extent.shape, np.bool_)
        return self.aoi.inside(self.grid, shard.extent)


def resolve_runtime(
    settings: MapSettings, bundle: Bundle, threads: int, *, measured: bool = True
) -> Runtime:
    """Resolve what the settings leave open about the computation, once for all workers.

    Parameters
    ----------
    settings
        What the user asked for.
    bundle
        The opened model.
    threads
        For the CPU kernels of each worker.
    measured
        False where the caller brings a predictor of its own, and has chosen already.

    Raises
    ------
    InputError
        When this machine does not have what was asked for, or it agrees too little.
    """
    device = settings.device
    if device == "auto" and settings.runtime == "openvino":
        device = "cpu"
    elif device == "auto":
        from geoforest.models.torch_runtime import best_device

        device = best_device()
    asked = _question(settings)
    batch_size = settings.batch_size
    if batch_size is None:
        from geoforest.models.torch_runtime import default_batch_size

        batch_size = default_batch_size(device)
    if not measured:
        name = "torch" if settings.runtime == "auto" else settings.runtime
        precision = settings.precision or reference_precision(device)
        return Runtime(name, device, precision, threads, batch_size, asked=asked)
    from geoforest.models.runtimes import choose

    choice = choose(
        bundle,
        runtime=settings.runtime,
        precision=settings.precision,
        device=device,
        threads=threads,
        window=settings.window or bundle.card.window,
        batch_size=batch_size,
    )
    return Runtime(
        choice.runtime, device, choice.precision, threads, batch_size, choice.agreement, asked
    )


def _question(settings: MapSettings) -> tuple[Any, ...]:
    return settings.runtime, settings.precision, settings.device, settings.batch_size


@dataclass(frozen=True)
class Draft:
    """A job that is open in one thing: what computes it."""

    scene: Scene
    bundle: Bundle
    settings: MapSettings
    aoi: AreaOfInterest | None
    load_predictor: Callable[[Job], Predictor]

    def job(self, runtime: Runtime, *, base_mb: float = 0.0) -> Job:
        """Settle the runtime, and with it the size of a shard.

        Parameters
        ----------
        runtime
            See :func:`resolve_runtime`.
        base_mb
            Memory of a worker before it has loaded anything, MB; for ``max_memory``.

        Raises
        ------
        InputError
            When no shard keeps to ``max_memory``.
        """
        return self._job(runtime, self._shard_cores(runtime, base_mb))

    def recorded(self, documents: Iterable[Mapping[str, Any]], *, base_mb: float) -> Job | None:
        """Take up the job of an earlier run: the same question gets the same answer.

        Parameters
        ----------
        documents
            ``job.json`` of earlier runs in the output folder.
        base_mb
            As for :meth:`job`.

        Returns
        -------
        Job or None
            None where none of them is of this very job, asked for in the same way.
        """
        settings = self.settings
        for document in documents:
            runtime = Runtime.recorded_in(document)
            if runtime is None or runtime.asked != _question(settings):
                continue
            job = self._job(runtime, document.get("shard_cores", 1))
            if job.fingerprint != document.get("fingerprint"):
                continue
            if document.get("shard_asked") == [settings.shard, settings.max_memory]:
                return job
            return self.job(runtime, base_mb=base_mb)
        return None

    @property
    def _window(self) -> int:
        return self.settings.window or self.bundle.card.window

    def _job(self, runtime: Runtime, cores: int) -> Job:
        grid = Grid(self.scene.shape, self._window, self.settings.halo, cores)
        return Job(self.scene, grid, self.bundle, runtime, self.aoi, self.load_predictor)

    def _shard_cores(self, runtime: Runtime, base_mb: float) -> int:
        settings, scene = self.settings, self.scene
        core = self._window - 2 * settings.halo
        if settings.shard is not None or settings.max_memory is None:
            return shard_cores(settings.shard or _SHARD_PX, core)
        itemsize = np.dtype(scene.dtype).itemsize
        scene_mb = scene.shape[0] * scene.shape[1] * len(scene.bands) * itemsize / 1e6
        return fitting_shard(
            settings.max_memory / 1e6,
            _SHARD_PX,
            core=core,
            base_mb=base_mb,
            model_mb=self.bundle.weights_mb,
            cache_mb=min(CACHE_BYTES / 1e6, scene_mb),
            window=self._window,
            batch_size=runtime.batch_size,
            halo=settings.halo,
            n_bands=len(scene.bands),
            itemsize=itemsize,
            at_once=SHARDS_AT_ONCE,
        )


def draft_job(
    path: str | Path,
    settings: MapSettings,
    bundle: Bundle,
    load_predictor: Callable[[Job], Predictor] = load_job_predictor,
) -> Draft:
    """Open the scene and the area of interest.

    Parameters
    ----------
    path
        The scene.
    settings
        What the user asked for.
    bundle
        The opened model.
    load_predictor
        Called once per worker; a module-level function, so that it travels.

    Raises
    ------
    InputError
        When the scene, the area of interest or the settings cannot be used.
    """
    scene = open_scene(
        path,
        wanted=bundle.card.bands,
        bands=settings.bands,
        scale=settings.scale,
        offset=settings.offset,
        nodata=settings.nodata,
        scene_id=settings.scene_id,
    )
    # Areas come last, but a grid without them is better refused before the hours of prediction.
    PixelTable.build(scene.transform, scene.crs, scene.shape)
    window = settings.window or bundle.card.window
    if 2 * settings.halo >= window:
        raise InputError(f"--halo {settings.halo} leaves no core in a window of {window}")
    aoi = read_aoi(settings.aoi, scene) if settings.aoi else None
    return Draft(scene, bundle, settings, aoi, load_predictor)


def base_memory_mb() -> float:
    """Resident memory of a process with all libraries that a worker has, and no model, MB."""
    from geoforest.models import torch_runtime, unet  # noqa: F401

    return resident_memory_mb()


def run_shard(job: Job, shard: Shard, predict: PredictShard, store: ShardStore) -> Receipt:
    """Read, predict and commit one shard: the one task of the engine.

    Parameters
    ----------
    job
        What to do.
    shard
        Which part of the scene.
    predict
        Called once, with raw numbers; see :func:`shard_predictor`.
    store
        Where the result is committed.

    Raises
    ------
    ReadError
        When pixels of the scene cannot be decoded.
    """
    start = time.perf_counter()
    inside = job.inside(shard)
    support = job.grid.support(shard.extent)
    dn, valid = read(job.scene, support.window)
    seen = _cut(valid, shard, support.window) & inside
    own = _cut(dn, shard, support.window)
    statistics = BandStatistics.of(own, seen)
    store.write_preview(
        shard,
        _thinned(own, shard, job.grid),
        _thinned(_cut(valid, shard, support.window), shard, job.grid),
    )
    dn, valid = support.expand(dn), support.expand(valid).astype(np.bool_, copy=False)
    seconds = {"read": time.perf_counter() - start}
    made = predict(dn, valid, seen)
    stored = made.stored
    seconds |= made.seconds
    receipt = Receipt(
        shard=shard.name,
        n_windows=made.n_windows,
        inside_px=int(inside.sum()),
        histogram=np.bincount(stored.ravel(), minlength=256).tolist(),
        statistics=statistics,
        seconds=seconds,
        halved=made.halved,
    )
    start = time.perf_counter()
    store.write(shard, stored, receipt, crs=job.scene.crs, transform=job.scene.transform)
    # The receipt is part of the file: the seconds of writing it cannot be.
    return replace(receipt, seconds={**seconds, "write": time.perf_counter() - start})


def shard_predictor(
    job: Job, predictor: Predictor, interrupted: Callable[[], bool] = lambda: False
) -> PredictShard:
    """Bind a predictor to a job's windows, halo, batch size, scale and offset.

    Once ``interrupted`` says so, it gives up before the next batch.
    """

    def predict(dn: Array, valid: Valid, wanted: Valid) -> ShardPrediction:
        watched = _Watched(predictor, interrupted)
        halvings = getattr(predictor, "halvings", 0)
        # Timed here, because a caller may wait for the prediction thread.
        start = time.perf_counter()
        stored, n_windows = predict_shard(
            watched,
            dn,
            valid,
            wanted,
            window=job.grid.window,
            halo=job.grid.halo,
            batch_size=job.runtime.batch_size,
            scale=job.scene.scale,
            offset=job.scene.offset,
        )
        spent = time.perf_counter() - start
        return ShardPrediction(
            stored,
            n_windows,
            {"predict": watched.seconds, "stitch": spent - watched.seconds},
            halved=getattr(predictor, "halvings", 0) > halvings,
        )

    return predict


class _Watched:
    """A predictor that counts its seconds, and gives up once the run is interrupted."""

    def __init__(self, predictor: Predictor, interrupted: Callable[[], bool]) -> None:
        self._predictor, self._interrupted = predictor, interrupted
        self.seconds = 0.0

    def __call__(
        self, dn: Array, scale: Factor = 1e-4, offset: Factor = 0.0, valid: Valid | None = None
    ) -> NDArray[np.float32]:
        if self._interrupted():
            raise IncompleteError("interrupted")
        start = time.perf_counter()
        probability = self._predictor(dn, scale=scale, offset=offset, valid=valid)
        self.seconds += time.perf_counter() - start
        return probability


def _thinned(array: Array, shard: Shard, grid: Grid) -> Array:
    """Pixels of a shard that a picture of the scene is made of."""
    rows, cols = preview_lattice(grid.shape)
    down, across = shard.extent.cut(rows, cols)
    picked = array[..., rows[down] - shard.extent.row_off, :]
    return picked[..., cols[across] - shard.extent.col_off]


def _cut(array: Array, shard: Shard, window: Any) -> Array:
    row = shard.extent.row_off - window.row_off
    col = shard.extent.col_off - window.col_off
    return array[..., row : row + shard.extent.height, col : col + shard.extent.width]


def _plain(value: float | None) -> float | str | None:
    # NaN is not equal to itself and no JSON number.
    return "nan" if value is not None and np.isnan(value) else value
