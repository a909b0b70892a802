"""Set-up shared by maps, dry runs, benchmarks and notebooks: settings, and the opened model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from geoforest.compute.cluster import Cluster
from geoforest.compute.machine import resident_memory_mb
from geoforest.models.registry import open_model
from geoforest.pipeline.job import Draft, Job, draft_job, load_job_predictor
from geoforest.pipeline.runtime import Runtime, resolve_runtime

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from geoforest.arrays.predict import Predictor
    from geoforest.models.bundle import Bundle
    from geoforest.pipeline.settings import MapSettings


@dataclass(frozen=True)
class Setup:
    """Settings, and the opened model that they name.

    Attributes
    ----------
    settings
        What the user asked for.
    bundle
        The opened model.
    base_mb
        Resident memory of a worker before it loads a model, MB; 0 without ``max_memory``.
    """

    settings: MapSettings
    bundle: Bundle
    base_mb: float

    @classmethod
    def of(cls, settings: MapSettings) -> Setup:
        """Open the model that the settings name.

        Raises
        ------
        InputError
            When the model cannot be used.
        """
        bundle = open_model(settings.model)
        # Workers may run in another current folder.
        bundle = replace(bundle, path=bundle.path.absolute())
        return cls(settings, bundle, _base_memory_mb() if settings.max_memory else 0.0)

    @property
    def cluster(self) -> Cluster:
        """Cluster on which shards run."""
        settings = self.settings
        return Cluster(settings.workers, settings.scheduler, settings.max_memory)

    def draft(
        self, path: str | Path, load_predictor: Callable[[Job], Predictor] = load_job_predictor
    ) -> Draft:
        """Open a scene; see :func:`geoforest.pipeline.job.draft_job`."""
        return draft_job(path, self.settings, self.bundle, load_predictor)

    def local_runtime(self) -> Runtime:
        """Choose the runtime on this machine.

        Raises
        ------
        InputError
            As :func:`geoforest.pipeline.runtime.resolve_runtime` does.
        """
        threads = Cluster(self.settings.workers).threads
        return resolve_runtime(self.settings, self.bundle, threads)


def _base_memory_mb() -> float:
    """Return the resident memory of a process that has loaded a worker's libraries only, MB."""
    from geoforest.models import torch_runtime, unet  # noqa: F401

    return resident_memory_mb()
