"""Read, predict and commit one shard: the task that the engine runs."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from geoforest.arrays.grid import Grid, Shard, Support, preview_lattice
from geoforest.arrays.predict import Predictor, predict_shard
from geoforest.arrays.reflectance import BandStatistics
from geoforest.arrays.validity import MISSING, ValueCounts, clipped
from geoforest.errors import IncompleteError
from geoforest.pipeline.shard_store import Receipt, ShardStore
from geoforest.scenes.read import read_judged

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from geoforest.pipeline.job import Job
    from geoforest.types import Array, StoredProbability, Valid


def run_shard(
    job: Job,
    shard: Shard,
    predictor: Predictor,
    store: ShardStore,
    *,
    thread: Executor,
    is_interrupted: Callable[[], bool] = lambda: False,
    on_windows: Callable[[int], object] = lambda _n_windows: None,
) -> Receipt:
    """Read, predict and commit one shard.

    Parameters
    ----------
    job
        What to map.
    shard
        Which part of the scene.
    predictor
        Predictor that the job's ``load_predictor`` returns.
    store
        Where the result is committed.
    thread
        Executor of one thread that predicts, so that a worker predicts one shard at a time.
    is_interrupted
        Called after each batch; True stops the shard.
    on_windows
        Called after each batch with the number of windows predicted so far.

    Raises
    ------
    ReadError
        When pixels of the scene cannot be decoded.
    IncompleteError
        When the shard was interrupted.
    """
    start = time.perf_counter()
    inside = job.inside(shard)
    pixels = read_pixels(job, job.grid.support(shard.extent))
    own = shard.extent.slices_in(pixels.support.window)
    dn, codes = pixels.dn[:, *own], pixels.codes[own]
    seen = (codes < MISSING) & inside
    cloudy = seen & pixels.cloudy[own]
    seen &= ~cloudy
    statistics = BandStatistics.of(dn, seen)
    values = ValueCounts.of(dn, codes, job.scene.rules, inside)
    store.write_preview(
        shard, _thinned(dn, shard, job.grid), _thinned(codes < MISSING, shard, job.grid)
    )
    dn, valid = pixels.for_network(job)
    seconds = {"read": time.perf_counter() - start}
    prediction = thread.submit(
        _predict, job, predictor, dn, valid, seen, is_interrupted, on_windows
    ).result()
    receipt = Receipt(
        shard=shard.name,
        n_windows=prediction.n_windows,
        inside_px=int(inside.sum()),
        cloud_px=int(cloudy.sum()),
        histogram=np.bincount(prediction.stored.ravel(), minlength=256).tolist(),
        statistics=statistics,
        values=values,
        seconds={**seconds, **prediction.seconds},
        halved=prediction.halved,
    )
    start = time.perf_counter()
    store.write(shard, prediction.stored, receipt, georef=job.scene.georef)
    # The receipt is part of the file, so the seconds of writing come after it.
    return replace(receipt, seconds={**receipt.seconds, "write": time.perf_counter() - start})


@dataclass(frozen=True, eq=False)
class Pixels:
    """The pixels that the windows of a shard need, halo included.

    Attributes
    ----------
    support
        Where they lie; the arrays hold its window.
    dn
        ``(band, row, col)``, stored values.
    codes
        uint8 ``(row, col)``, see :mod:`geoforest.arrays.validity`.
    cloudy
        bool ``(row, col)``: pixels that the cloud mask removes.
    """

    support: Support
    dn: Array
    codes: NDArray[np.uint8]
    cloudy: Valid

    def for_network(self, job: Job) -> tuple[Array, Valid]:
        """Return values within what reflectance can be, and which of them the network sees.

        A pixel under a cloud enters the network as one that was not observed, in the halo, too.
        """
        valid = (self.codes < MISSING) & ~self.cloudy
        dn = clipped(self.dn, job.scene.rules)
        return self.support.expand(dn), self.support.expand(valid).astype(np.bool_, copy=False)


def read_pixels(job: Job, support: Support) -> Pixels:
    """Read the pixels of a support, and find those that were not observed or are cloudy.

    Raises
    ------
    ReadError
        When pixels of the scene cannot be decoded.
    """
    dn, codes = read_judged(job.scene, support.window)
    return Pixels(support, dn, codes, job.cloudy(support.window))


@dataclass(frozen=True)
class _Prediction:
    """Stored probability of a shard, windows predicted, seconds per stage, batches halved."""

    stored: StoredProbability
    n_windows: int
    seconds: dict[str, float]
    halved: bool


def _predict(
    job: Job,
    predictor: Predictor,
    dn: Array,
    valid: Valid,
    wanted: Valid,
    is_interrupted: Callable[[], bool],
    on_windows: Callable[[int], object],
) -> _Prediction:
    """Predict the windows of a shard, in the prediction thread."""
    predicting = 0.0

    def watch(seconds: float, n_windows: int) -> None:
        nonlocal predicting
        predicting += seconds
        on_windows(n_windows)
        if is_interrupted():
            raise IncompleteError("interrupted")

    halvings = getattr(predictor, "halvings", 0)
    # Timed here, because a caller may wait for this thread.
    start = time.perf_counter()
    stored, n_windows = predict_shard(
        predictor,
        dn,
        valid,
        wanted,
        window=job.grid.window,
        halo=job.grid.halo,
        batch_size=job.runtime.batch_size,
        scale=job.scene.scale,
        offset=job.scene.offset,
        watch=watch,
    )
    stitching = time.perf_counter() - start - predicting
    return _Prediction(
        stored,
        n_windows,
        {"predict": predicting, "stitch": stitching},
        halved=getattr(predictor, "halvings", 0) > halvings,
    )


def _thinned(array: Array, shard: Shard, grid: Grid) -> Array:
    """Return the pixels of a shard that a decimated picture of the scene shows."""
    rows, cols = preview_lattice(grid.shape)
    down, across = shard.extent.cut(rows, cols)
    picked = array[..., rows[down] - shard.extent.row_off, :]
    return picked[..., cols[across] - shard.extent.col_off]
