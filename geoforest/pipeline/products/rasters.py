"""The two rasters of a map, mask and probability, from finished shards."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import rasterio

from geoforest._version import __version__
from geoforest.arrays.grid import Window
from geoforest.compute.clock import Clock
from geoforest.errors import ReadError
from geoforest.io.cog import CogWriter, MaskWriter, ProbabilityWriter, read_strips
from geoforest.pipeline.job import Job
from geoforest.pipeline.ledger import Prediction
from geoforest.pipeline.workspace import Workspace
from geoforest.scenes.scene import Scene
from geoforest.types import NO_OBSERVATION, Mask, StoredProbability


class _Raster:
    """A raster that is staged, and its metadata."""

    def __init__(
        self,
        path: Path,
        kind: type[MaskWriter | ProbabilityWriter],
        scene: Scene,
        tags: Mapping[str, str],
    ) -> None:
        self.path, self.tags = path, tags
        self._open = partial(
            kind, path, shape=scene.shape, crs=scene.crs, transform=scene.transform, tags=tags
        )

    @cached_property
    def writer(self) -> CogWriter:
        return self._open()

    def finish(self, clock: Clock) -> None:
        with clock.stage(f"{self.path.stem} cog"):
            self.writer.finish()


class _Rows:
    """Whole rows of both rasters, put together from windows that come row by row."""

    def __init__(self, n_cols: int) -> None:
        self._n_cols, self._left = n_cols, 0

    def fill(self, window: Window, mask: Mask, probability: StoredProbability) -> bool:
        """Take a window; True when its rows are complete."""
        if not self._left:
            # New arrays each time: the old ones are still being read.
            shape = window.height, self._n_cols
            self.mask, self.probability = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
            self._left = self._n_cols
        cols = window.slices[1]
        self.mask[:, cols], self.probability[:, cols] = mask, probability
        self._left -= window.width
        return not self._left


def _has_tags(path: Path, tags: Mapping[str, str]) -> bool:
    with rasterio.open(path) as source:
        return source.tags().items() >= tags.items()


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, target)


def _stored_blocks(
    job: Job, workspace: Workspace, prediction: Prediction
) -> Iterator[tuple[Window, StoredProbability]]:
    """Give the stored probability in pieces that cover the scene once."""
    if prediction.finished is not None:
        yield from read_strips(prediction.finished)
        return
    planned = {shard.name for shard in job.plan()}.difference(prediction.gaps)
    for shard in job.grid.shards():
        if shard.name not in planned:
            yield shard.extent, np.full(shard.extent.shape, NO_OBSERVATION, np.uint8)
            continue
        loaded = workspace.store.load(shard)
        if loaded is None:
            raise ReadError(
                f"{workspace.store.path(shard)}: a finished shard has been damaged or removed; "
                "the same command makes it again"
            )
        yield shard.extent, loaded[0]


def _tags(job: Job, product: str, **more: str) -> Mapping[str, str]:
    """Metadata of a raster: nothing that differs between two runs of one job."""
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
