"""A job: everything that decides the pixels of a map, and its fingerprint."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from geoforest.arrays.area import PixelTable
from geoforest.arrays.grid import Grid, Shard, Window, shard_cores, wider_halo
from geoforest.arrays.validity import RULES
from geoforest.compute.cluster import SHARDS_AT_ONCE
from geoforest.errors import InputError
from geoforest.io.remote import shown
from geoforest.pipeline.memory import fitting_shard
from geoforest.pipeline.runtime import Runtime
from geoforest.scenes.aoi import AreaOfInterest, read_aoi
from geoforest.scenes.clouds.mask import CloudMask, cloud_mask
from geoforest.scenes.open import open_scene
from geoforest.scenes.read import CACHE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from geoforest.arrays.predict import Predictor
    from geoforest.models.bundle import Bundle
    from geoforest.pipeline.settings import MapSettings
    from geoforest.scenes.scene import Scene
    from geoforest.types import Valid

FORMAT_VERSION: Final = 1
# Name of the default loader in fingerprints. It never changes, wherever the function is defined:
# with another name every finished map would count as another job.
_DEFAULT_LOADER: Final = "geoforest.job.load_job_predictor"
_SHARD_PX = 1792


def load_job_predictor(job: Job) -> Predictor:
    """Load a job's bundle into its runtime."""
    from geoforest.models.runtimes import load_predictor

    runtime = job.runtime
    return load_predictor(
        job.bundle,
        runtime=runtime.name,
        precision=runtime.precision,
        device=runtime.device,
        threads=runtime.threads,
    )


@dataclass(frozen=True)
class Job:
    """One scene to be mapped with one model. Small enough to be sent to workers."""

    scene: Scene
    grid: Grid
    bundle: Bundle
    runtime: Runtime
    aoi: AreaOfInterest | None = None
    clouds: CloudMask | None = None
    load_predictor: Callable[[Job], Predictor] = load_job_predictor

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that changes a pixel of the stored probability, as JSON."""
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
                [band.name, shown(band.path), band.index, _plain(band.nodata), band.mask_index]
                for band in self.scene.bands
            ],
            "scale": list(self.scene.scale),
            "offset": list(self.scene.offset),
            "zero_is_nodata": self.scene.zero_is_nodata,
            # Shards of other rules are never mixed with these.
            "observed_rules": [RULES, self.scene.saturated],
            "aoi": self.aoi.digest if self.aoi else None,
            "clouds": self.clouds.identity if self.clouds else None,
            "window": self.grid.window,
            "halo": self.grid.halo,
            "batch_size": self.runtime.batch_size,
            "runtime": [
                _loader_name(self.load_predictor),
                self.runtime.name,
                self.runtime.device.partition(":")[0],
                self.runtime.precision,
            ],
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of :attr:`identity`, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()

    def record(self, settings: MapSettings) -> dict[str, Any]:
        """Return what ``job.json`` records, so that a later run can recognise and resume it."""
        return {
            "fingerprint": self.fingerprint,
            "identity": self.identity,
            "runtime": vars(self.runtime),
            "shard_cores": self.grid.shard_cores,
            "shard_asked": [settings.shard, settings.max_memory],
        }

    def plan(self) -> list[Shard]:
        """List the shards that touch the area of interest, in row order."""
        if self.aoi is None:
            return list(self.grid.shards())
        return [shard for shard in self.grid.shards() if self.inside(shard).any()]

    def windows(self, shard: Shard) -> int:
        """Count the windows of a shard that the area of interest touches."""
        cores = self.grid.cores(shard.extent)
        return sum(self.aoi is None or self.aoi.touches(core) for core in cores)

    def inside(self, shard: Shard) -> Valid:
        """Return which pixels of a shard are inside the area of interest; all without one."""
        if self.aoi is None:
            return np.ones(shard.extent.shape, np.bool_)
        return self.aoi.inside(self.grid, shard.extent)

    def cloudy(self, window: Window) -> Valid:
        """Return which pixels of a window of the scene the cloud mask removes; none without one."""
        if self.clouds is None:
            return np.zeros(window.shape, np.bool_)
        return self.clouds.masked(window, self.scene.shape)


@dataclass(frozen=True)
class Draft:
    """A job whose runtime is not chosen yet."""

    scene: Scene
    bundle: Bundle
    settings: MapSettings
    aoi: AreaOfInterest | None
    clouds: CloudMask | None
    load_predictor: Callable[[Job], Predictor]

    def job(self, runtime: Runtime, *, base_mb: float = 0.0) -> Job:
        """Return the job with this runtime, and the shard size that fits it.

        Parameters
        ----------
        runtime
            See :func:`resolve_runtime`.
        base_mb
            Resident memory of a worker before it loads a model, MB; used with ``max_memory``.

        Raises
        ------
        InputError
            When not even the smallest shard fits ``max_memory``.
        """
        return self._job(runtime, self._shard_cores(runtime, base_mb))

    def of_earlier(self, documents: Iterable[Mapping[str, Any]], *, base_mb: float) -> Job | None:
        """Return the job of an earlier run, with its runtime and shard size.

        So a map keeps its runtime, whatever ``auto`` would choose now.

        Parameters
        ----------
        documents
            ``job.json`` of earlier runs in the output folder.
        base_mb
            As for :meth:`job`.

        Returns
        -------
        Job or None
            None when no document records this job in a runtime that the settings allow.
        """
        settings = self.settings
        for document in documents:
            runtime = Runtime.from_record(document)
            if runtime is None or not runtime.answers(settings):
                continue
            if settings.device != "auto":
                # The number of the CUDA device changes no result.
                runtime = replace(runtime, device=settings.device)
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
        return Job(
            self.scene, grid, self.bundle, runtime, self.aoi, self.clouds, self.load_predictor
        )

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
            base_mb=base_mb + (self.clouds.source.memory_mb if self.clouds else 0.0),
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
    """Open the scene, the area of interest and the cloud mask.

    Parameters
    ----------
    path
        The scene.
    settings
        What the user asked for.
    bundle
        The opened model.
    load_predictor
        Called once per worker; a module-level function, so that it can be sent to workers.

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
    # Areas are computed at the end; refuse a grid that has none before hours of prediction.
    PixelTable.build(scene.georef)
    window = settings.window or bundle.card.window
    if 2 * settings.halo >= window:
        raise InputError(f"--halo {settings.halo} leaves no core in a window of {window}")
    if settings.check_halo and 2 * wider_halo(settings.halo) >= window:
        raise InputError(
            f"--check-halo: twice the halo, {wider_halo(settings.halo)} px, leaves no core in a "
            f"window of {window}; a larger --window or a smaller --halo was wanted"
        )
    aoi = read_aoi(settings.aoi, scene) if settings.aoi else None
    scene, clouds = cloud_mask(
        scene, settings.cloud_mask, buffer_m=settings.cloud_buffer, snow=settings.mask_snow
    )
    return Draft(scene, bundle, settings, aoi, clouds, load_predictor)


def _loader_name(loader: Callable[[Job], Predictor]) -> str:
    if loader is load_job_predictor:
        return _DEFAULT_LOADER
    return f"{loader.__module__}.{loader.__qualname__}"


def _plain(value: float | None) -> float | str | None:
    # NaN does not equal itself, and JSON has no number for it.
    return "nan" if value is not None and np.isnan(value) else value
