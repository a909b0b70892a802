"""One shard's work: read, predict, commit. The one task of the engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geoforest.arrays.grid import Grid, Shard, preview_lattice
from geoforest.arrays.predict import Predictor, predict_shard
from geoforest.arrays.reflectance import BandStatistics
from geoforest.errors import IncompleteError
from geoforest.pipeline.shard_store import Receipt, ShardStore
from geoforest.scenes.read import read
from geoforest.types import Array, Factor, StoredProbability, Valid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoforest.pipeline.job import Job


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
"""Called with ``dn, valid, wanted``, see :func:`geoforest.arrays.predict.predict_shard`."""


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
    cloudy = seen & job.cloudy(shard)
    seen &= ~cloudy
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
        cloud_px=int(cloudy.sum()),
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
