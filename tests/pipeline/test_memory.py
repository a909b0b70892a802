"""The shard that keeps a worker below a bound."""

from __future__ import annotations

import pytest

from geoforest.errors import InputError
from geoforest.pipeline.memory import fitting_shard, worker_peak_mb

SIZES = {
    "base_mb": 500.0,
    "model_mb": 100.0,
    "cache_mb": 200.0,
    "window": 512,
    "batch_size": 1,
    "halo": 32,
    "n_bands": 4,
    "itemsize": 2,
    "at_once": 2,
}


def test_more_of_anything_takes_more():
    usual = worker_peak_mb(shard_px=1792, **SIZES)
    for name in SIZES:
        assert worker_peak_mb(shard_px=1792, **{**SIZES, name: 2 * SIZES[name]}) > usual, name
    assert worker_peak_mb(shard_px=3584, **SIZES) > usual


def test_the_largest_that_fits():
    for max_mb in (1600.0, 1750.0, 2500.0):
        cores = fitting_shard(max_mb, 1792, core=448, **SIZES)
        assert 1 <= cores <= 4
        assert worker_peak_mb(shard_px=cores * 448, **SIZES) <= max_mb
        if cores < 4:
            assert worker_peak_mb(shard_px=(cores + 1) * 448, **SIZES) > max_mb
    assert fitting_shard(1e6, 1792, core=448, **SIZES) == 4


def test_what_cannot_fit_says_what_would():
    with pytest.raises(InputError, match=r"max_memory 600 MB: a worker needs at least 1,4\d\d MB"):
        fitting_shard(600.0, 1792, core=448, **SIZES)
