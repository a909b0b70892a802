"""Write the two rasters of a map, mask and probability, from finished shards."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from geoforest._version import __version__
from geoforest.errors import ReadError
from geoforest.io.cog import CogWriter, MaskWriter, ProbabilityWriter, read_strips
from geoforest.io.names import MASK_NAME, PROBABILITY_NAME
from geoforest.io.raster import open_raster
from geoforest.types import NO_OBSERVATION, Mask, StoredProbability

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from geoforest.arrays.grid import Window
    from geoforest.compute.clock import Clock
    from geoforest.pipeline.job import Job
    from geoforest.pipeline.ledger import Prediction
    from geoforest.pipeline.products.request import MapRun
    from geoforest.scenes.scene import Scene


class MapRasters:
    """Writer of mask and stored probability in the staging folder.

    It is a context manager; an exception that leaves it removes unfinished files.

    Parameters
    ----------
    run
        The map.
    prediction
        Totals over the shards. The raster of an earlier run is reused when its tags are those that
        this run would write.
    """

    def __init__(self, run: MapRun, prediction: Prediction) -> None:
        card = run.job.bundle.card
        self._clock, self._held = run.clock, ExitStack()
        self._mask = _Raster(
            run.workspace.staging / MASK_NAME,
            MaskWriter,
            run.job.scene,
            _tags(run.job, "forest_mask", THRESHOLD=repr(run.threshold)),
        )
        self._probability = _Raster(
            run.workspace.staging / PROBABILITY_NAME,
            ProbabilityWriter,
            run.job.scene,
            _tags(run.job, "forest_probability", MODEL_THRESHOLD=repr(card.threshold)),
        )
        self._written = [self._mask, self._probability]
        finished = prediction.finished
        if finished is not None and _has_tags(finished, self._probability.tags):
            _link(finished, self.probability)
            self._written = [self._mask]

    @property
    def mask(self) -> Path:
        """Mask raster."""
        return self._mask.path

    @property
    def probability(self) -> Path:
        """Stored-probability raster."""
        return self._probability.path

    def __enter__(self) -> MapRasters:
        for raster in self._written:
            self._held.enter_context(raster.writer)
        return self

    def __exit__(self, *error: Any) -> None:
        self._held.__exit__(*error)

    def write(self, window: Window, mask: Mask, stored: StoredProbability) -> None:
        """Write a window of both rasters."""
        for raster, values in zip(self._written, (mask, stored), strict=False):
            raster.writer.write(window, values)

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """Compress both and add overviews, in threads in parallel to the block."""
        with ThreadPoolExecutor(len(self._written)) as threads:
            finishing = [threads.submit(raster.finish, self._clock) for raster in self._written]
            yield
            for done in finishing:
                done.result()


class _Raster:
    """Raster in the staging folder, and its tags."""

    def __init__(
        self,
        path: Path,
        kind: type[MaskWriter | ProbabilityWriter],
        scene: Scene,
        tags: Mapping[str, str],
    ) -> None:
        self.path, self.tags = path, tags
        self._open = partial(kind, path, georef=scene.georef, tags=tags)

    @cached_property
    def writer(self) -> CogWriter:
        return self._open()

    def finish(self, clock: Clock) -> None:
        with clock.stage(f"{self.path.stem} cog"):
            self.writer.finish()


class WholeRows:
    """Whole rows of both rasters, assembled from windows in row order.

    Attributes
    ----------
    mask, probability
        uint8 ``(row, col)``, as wide as the scene.
    """

    def __init__(self, n_cols: int) -> None:
        self._n_cols, self._left = n_cols, 0

    def fill(self, window: Window, mask: Mask, probability: StoredProbability) -> bool:
        """Add a window; True when its rows are complete."""
        if not self._left:
            # New arrays each time, since consumers may still read the old ones.
            shape = window.height, self._n_cols
            self.mask, self.probability = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
            self._left = self._n_cols
        cols = window.slices[1]
        self.mask[:, cols], self.probability[:, cols] = mask, probability
        self._left -= window.width
        return not self._left


def stored_blocks(
    run: MapRun, prediction: Prediction
) -> Iterator[tuple[Window, StoredProbability]]:
    """Yield the stored probability in windows that cover the scene exactly once.

    Raises
    ------
    ReadError
        When a finished shard was damaged or removed meanwhile.
    """
    job, store = run.job, run.workspace.store
    if prediction.finished is not None:
        yield from read_strips(prediction.finished)
        return
    planned = {shard.name for shard in job.plan()}.difference(prediction.gaps)
    for shard in job.grid.shards():
        if shard.name not in planned:
            yield shard.extent, np.full(shard.extent.shape, NO_OBSERVATION, np.uint8)
            continue
        loaded = store.load(shard)
        if loaded is None:
            raise ReadError(
                f"{store.path(shard)}: a finished shard has been damaged or removed; "
                "the same command makes it again"
            )
        yield shard.extent, loaded[0]


def _has_tags(path: Path, tags: Mapping[str, str]) -> bool:
    with open_raster(path) as source:
        return bool(source.tags().items() >= tags.items())


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, target)


def _tags(job: Job, product: str, **more: str) -> Mapping[str, str]:
    """Return the tags of a raster: nothing that differs between two runs of a job."""
    tags = {
        "GEOFOREST_PRODUCT": product,
        "SCENE_ID": job.scene.scene_id,
        "MODEL": job.bundle.model_id,
        "TIFFTAG_SOFTWARE": f"geoforest {__version__}",
        **more,
    }
    if job.scene.acquired is not None:
        tags["ACQUIRED"] = job.scene.acquired.isoformat()
    return tags
