"""Cores partition the scene, windows hold them, and cutting and pasting changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoforest.arrays.grid import Grid, Window, reflect, shard_cores
from geoforest.arrays.predict import predict_shard
from geoforest.types import NO_OBSERVATION
from tests.helpers.synthetic import IdentityPredictor

shapes = st.tuples(st.integers(1, 90), st.integers(1, 90))
cuts = st.sampled_from([(32, 0), (32, 4), (32, 15), (64, 8)])


def stitched(dn: np.ndarray, valid: np.ndarray, grid: Grid, batch_size: int) -> np.ndarray:
    whole = np.full(grid.shape, 77, np.uint8)
    for shard in grid.shards():
        support = grid.support(shard.extent)
        window = support.window
        stored, _ = predict_shard(
            IdentityPredictor(),
            support.expand(dn[(slice(None), *window.slices)]),
            support.expand(valid[window.slices]),
            valid[shard.extent.slices],
            window=grid.window,
            halo=grid.halo,
            batch_size=batch_size,
            scale=1 / 250,
        )
        whole[shard.extent.slices] = stored
    return whole


@given(shape=shapes, cut=cuts, side=st.integers(1, 4))
def test_each_pixel_lies_in_one_core_and_one_shard(shape, cut, side):
    grid = Grid(shape, *cut, shard_cores=side)
    in_cores, in_shards = np.zeros(shape, int), np.zeros(shape, int)
    for shard in grid.shards():
        in_shards[shard.extent.slices] += 1
        for core in grid.cores(shard.extent):
            in_cores[core.slices] += 1
            assert core.height <= grid.core
            assert core.width <= grid.core
    assert (in_cores == 1).all()
    assert (in_shards == 1).all()


@given(shape=shapes, cut=cuts, side=st.integers(1, 4))
def test_support_holds_whole_windows(shape, cut, side):
    grid = Grid(shape, *cut, shard_cores=side)
    for shard in grid.shards():
        support = grid.support(shard.extent)
        for indices, size in ((support.rows, shape[0]), (support.cols, shape[1])):
            assert (len(indices) - 2 * grid.halo) % grid.core == 0
            assert indices.min() >= 0
            assert indices.max() < size
        kept = support.rows[grid.halo : grid.halo + shard.extent.height]
        assert (kept == np.arange(shard.extent.row_off, shard.extent.row_off + len(kept))).all()


@settings(deadline=None, max_examples=60)
@given(
    shape=shapes,
    cut=cuts,
    side=st.integers(1, 4),
    batch_size=st.integers(1, 5),
    seed=st.integers(0, 9),
)
def test_identity_predictor_gives_the_scene_back(shape, cut, side, batch_size, seed):
    rng = np.random.default_rng(seed)
    dn = rng.integers(0, 251, (4, *shape)).astype(np.uint16)
    valid = rng.random(shape) < 0.8
    whole = stitched(dn, valid, Grid(shape, *cut, shard_cores=side), batch_size)
    assert (whole == np.where(valid, dn[0], NO_OBSERVATION)).all()


def test_core_of_a_larger_scene_edge_is_reflected():
    assert reflect(np.arange(-4, 9), 5).tolist() == [4, 3, 2, 1, 0, 1, 2, 3, 4, 3, 2, 1, 0]
    grid = Grid((3, 3), 32, 8)
    block = np.arange(9).reshape(3, 3)
    expanded = grid.support(Window(0, 0, 3, 3)).expand(block)
    assert expanded.shape == (32, 32)
    expected = np.pad(block, ((8, 21), (8, 21)), mode="reflect")
    assert (expanded == expected).all()


def test_shard_sizes_are_rounded_up_to_whole_cores():
    assert [shard_cores(px, 448) for px in (1, 448, 449, 1792)] == [1, 1, 2, 4]


@pytest.mark.parametrize("bad", [{"halo": 16}, {"halo": -1}, {"shard_cores": 0}])
def test_impossible_grids_are_refused(bad):
    with pytest.raises(ValueError, match=r"halo|core"):
        Grid((10, 10), **{"window": 32, **bad})


def test_windows_without_a_wanted_pixel_are_not_predicted():
    wanted = np.zeros((64, 64), bool)
    wanted[40, 40] = True
    dn = np.ones((4, 80, 80), np.uint16)
    stored, n_windows = predict_shard(
        IdentityPredictor(), dn, np.ones((80, 80), bool), wanted, window=32, halo=8, batch_size=3
    )
    assert n_windows == 1
    assert (stored != NO_OBSERVATION).sum() == 1
