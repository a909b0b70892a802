"""A job: everything that decides the pixels of a map, its fingerprint, and one shard's work."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geoforest.area import PixelTable
from geoforest.config import MapSettings
from geoforest.errors import InputError
from geoforest.grid import Grid, Shard, shard_cores
from geoforest.io.aoi import AreaOfInterest, read_aoi
from geoforest.io.geotiff import CACHE_BYTES, read
from geoforest.io.open import open_scene
from geoforest.io.shards import Receipt, ShardStore
from geoforest.machine import resident_memory_mb
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

PredictShard = Callable[[Array, Valid, Valid], tuple[StoredProbability, int, dict[str, float]]]
"""``(dn, valid, wanted)`` to stored probability, windows predicted, and seconds by stage."""


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
    """

    name: str
    device: str
    precision: str
    threads: int
    batch_size: int
    agreement: float | None = None

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Runtime:
        """Take up what an earlier run resolved, as ``vars(runtime)`` in its ``job.json``."""
        return cls(**{"name": "torch", **record})


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

    def plan(self) -> list[Shard]:
        """List the shards of the scene in row order, those beside the area of interest left out."""
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
    kind = device.partition(":")[0]
    batch_size = settings.batch_size
    if batch_size is None:
        from geoforest.models.torch_runtime import default_batch_size

        batch_size = default_batch_size(device)
    if not measured:
        name = "torch" if settings.runtime == "auto" else settings.runtime
        precision = settings.precision or ("float16" if kind == "cuda" else "float32")
        return Runtime(name, device, precision, threads, batch_size)
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
    return Runtime(choice.runtime, device, choice.precision, threads, batch_size, choice.agreement)


def make_job(
    path: str | Path,
    settings: MapSettings,
    bundle: Bundle,
    runtime: Runtime,
    load_predictor: Callable[[Job], Predictor] = load_job_predictor,
) -> Job:
    """Open the scene and resolve what the settings leave open about it.

    Parameters
    ----------
    path
        The scene.
    settings
        What the user asked for.
    bundle
        The opened model.
    runtime
        See :func:`resolve_runtime`.
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
    return Job(
        scene=scene,
        grid=Grid(
            scene.shape,
            window,
            settings.halo,
            _shard_cores(settings, scene, bundle, runtime, window),
        ),
        bundle=bundle,
        runtime=runtime,
        aoi=read_aoi(settings.aoi, scene) if settings.aoi else None,
        load_predictor=load_predictor,
    )


def _shard_cores(
    settings: MapSettings, scene: Scene, bundle: Bundle, runtime: Runtime, window: int
) -> int:
    core = window - 2 * settings.halo
    if settings.shard is not None or settings.max_memory is None:
        return shard_cores(settings.shard or _SHARD_PX, core)
    import segmentation_models_pytorch  # noqa: F401  # as a worker will have it in memory

    itemsize = np.dtype(scene.dtype).itemsize
    scene_mb = scene.shape[0] * scene.shape[1] * len(scene.bands) * itemsize / 1e6
    return fitting_shard(
        settings.max_memory / 1e6,
        _SHARD_PX,
        core=core,
        base_mb=resident_memory_mb(),
        model_mb=bundle.weights_mb,
        cache_mb=min(CACHE_BYTES / 1e6, scene_mb),
        window=window,
        batch_size=runtime.batch_size,
        halo=settings.halo,
        n_bands=len(scene.bands),
        itemsize=itemsize,
        at_once=SHARDS_AT_ONCE,
    )


def with_earlier_runtime(job: Job, settings: MapSettings, record: dict[str, Any] | None) -> Job:
    """Give the same job with what an earlier run resolved, where the settings leave it open.

    Parameters
    ----------
    record
        The runtime in the earlier run's ``job.json``.
    """
    if record is None:
        return job
    earlier, now = Runtime.from_record(record), job.runtime
    if earlier.device.partition(":")[0] != now.device.partition(":")[0]:
        return job
    if settings.precision is not None or settings.runtime not in {"auto", earlier.name}:
        asked = (earlier.name, earlier.precision) == (now.name, now.precision)
        if not asked:
            return job
    return replace(job, runtime=replace(earlier, device=now.device, batch_size=now.batch_size))


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
    statistics = BandStatistics.of(_cut(dn, shard, support.window), seen)
    dn, valid = support.expand(dn), support.expand(valid).astype(np.bool_, copy=False)
    seconds = {"read": time.perf_counter() - start}
    stored, n_windows, spent = predict(dn, valid, seen)
    seconds |= spent
    receipt = Receipt(
        shard=shard.name,
        n_windows=n_windows,
        inside_px=int(inside.sum()),
        histogram=np.bincount(stored.ravel(), minlength=256).tolist(),
        statistics=statistics,
        seconds=seconds,
    )
    start = time.perf_counter()
    store.write(shard, stored, receipt, crs=job.scene.crs, transform=job.scene.transform)
    # The receipt is part of the file: the seconds of writing it cannot be.
    return replace(receipt, seconds={**seconds, "write": time.perf_counter() - start})


def shard_predictor(job: Job, predictor: Predictor) -> PredictShard:
    """Bind a predictor to a job's windows, halo, batch size, scale and offset."""

    def predict(
        dn: Array, valid: Valid, wanted: Valid
    ) -> tuple[StoredProbability, int, dict[str, float]]:
        timed = _Timed(predictor)
        # Timed here, because a caller may wait for the prediction thread.
        start = time.perf_counter()
        stored, n_windows = predict_shard(
            timed,
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
        return stored, n_windows, {"predict": timed.seconds, "stitch": spent - timed.seconds}

    return predict


class _Timed:
    """A predictor that counts its seconds."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self.seconds = 0.0

    def __call__(
        self, dn: Array, scale: Factor = 1e-4, offset: Factor = 0.0, valid: Valid | None = None
    ) -> NDArray[np.float32]:
        start = time.perf_counter()
        probability = self._predictor(dn, scale=scale, offset=offset, valid=valid)
        self.seconds += time.perf_counter() - start
        return probability


def _cut(array: Array, shard: Shard, window: Any) -> Array:
    row = shard.extent.row_off - window.row_off
    col = shard.extent.col_off - window.col_off
    return array[..., row : row + shard.extent.height, col : col + shard.extent.width]


def _plain(value: float | None) -> float | str | None:
    # NaN is not equal to itself and no JSON number.
    return "nan" if value is not None and np.isnan(value) else value
