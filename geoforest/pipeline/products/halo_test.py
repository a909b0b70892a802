"""Halo test: how much a map changes when the network sees more context around each core."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from geoforest.arrays.grid import Grid, Window, wider_halo
from geoforest.arrays.predict import Predictor, predict_shard
from geoforest.arrays.stitch import mask_from_probability
from geoforest.io.raster import open_raster
from geoforest.pipeline.shard import read_pixels
from geoforest.scenes.read import release
from geoforest.types import NO_OBSERVATION, PROBABILITY_STEPS, StoredProbability

if TYPE_CHECKING:
    from pathlib import Path

    from geoforest.pipeline.job import Job

_CORES: Final = 16
_SEED: Final = 0


@dataclass(frozen=True)
class HaloTest:
    """Result of the halo test.

    Attributes
    ----------
    halo
        Halo of the second prediction, in pixels.
    cores
        Number of cores predicted again.
    disagreement
        Share of their observed pixels whose mask code differs; None without such pixels.
    mean_difference
        Mean absolute difference of their stored probability, 0 to 1.
    """

    halo: int
    cores: int
    disagreement: float | None
    mean_difference: float | None


def check_halo(job: Job, predictor: Predictor, probability: Path, threshold: float) -> HaloTest:
    """Predict a random sample of cores again with twice the halo, or 32 px instead of 0.

    At most 16 cores with an observed pixel are drawn with a fixed seed. Each is covered by windows
    with smaller cores, so that all its pixels have twice the context on every side. The window
    keeps its size, since networks may pool over it and runtimes are compiled for one shape.

    Parameters
    ----------
    job
        Job of the map.
    predictor
        Predictor of the job.
    probability
        Raster of the stored probability.
    threshold
        Threshold of the mask, 0 to 1.

    Raises
    ------
    ReadError
        When pixels of the scene cannot be decoded.
    """
    grid = replace(job.grid, halo=wider_halo(job.grid.halo))
    everything = Window(0, 0, *job.scene.shape)
    cores = list(job.grid.cores(everything))
    order = np.random.default_rng(_SEED).permutation(len(cores))
    n_cores = n_pixels = changed = difference = 0
    try:
        with open_raster(probability) as source:
            for number in order:
                core = cores[number]
                before = source.read(1, window=core.slices)
                seen = before != NO_OBSERVATION
                if not seen.any():
                    continue
                after = _predict(job, grid, predictor, core, before)
                masks = (mask_from_probability(stored, threshold) for stored in (before, after))
                changed += int(np.not_equal(*masks).sum())
                difference += int(np.abs(before.astype(int) - after)[seen].sum())
                n_pixels += int(seen.sum())
                n_cores += 1
                if n_cores == _CORES:
                    break
    finally:
        release(job.scene)
    if not n_pixels:
        return HaloTest(grid.halo, 0, None, None)
    return HaloTest(
        grid.halo, n_cores, changed / n_pixels, difference / n_pixels / PROBABILITY_STEPS
    )


def _predict(
    job: Job, grid: Grid, predictor: Predictor, core: Window, before: StoredProbability
) -> StoredProbability:
    dn, valid = read_pixels(job, grid.support(core)).for_network(job)
    stored, _ = predict_shard(
        predictor,
        dn,
        valid,
        before != NO_OBSERVATION,
        window=grid.window,
        halo=grid.halo,
        batch_size=job.runtime.batch_size,
        scale=job.scene.scale,
        offset=job.scene.offset,
    )
    return stored
