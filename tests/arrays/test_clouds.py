"""Buffers around clouds, held against distances counted one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geoforest.arrays.clouds import buffer_px, within
from geoforest.arrays.grid import Grid, Window
from geoforest.scenes.clouds.mask import CloudMask
from tests.helpers.distances import brute_force

SHAPES = st.tuples(st.integers(1, 24), st.integers(1, 24))
CODES = SHAPES.flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 0, 0, 0, 0, 1, 2]))
)
PIXELS_M = st.sampled_from([(10.0, 10.0), (10.0, 7.5), (10.004, 9.997), (20.0, 60.0)])


class Codes:
    """A source that knows its codes already."""

    def __init__(self, codes: np.ndarray) -> None:
        self._codes = codes

    memory_mb = 0.0

    @property
    def identity(self) -> dict[str, object]:
        return {}

    def read_codes(self, window: Window) -> np.ndarray:
        return self._codes[window.slices]


@settings(max_examples=80, deadline=None)
@given(
    CODES,
    st.sampled_from([0.0, 9.0, 10.0, 25.0, 50.0, 1000.0]),
    PIXELS_M,
    st.integers(1, 3),
    st.sampled_from([4, 8]),
)
def test_the_mask_is_that_of_distances_whatever_the_shard(codes, buffer_m, pixel_m, cores, window):
    mask = CloudMask(Codes(codes), buffer_m, pixel_m)
    grid = Grid(codes.shape, window=window, halo=1, shard_cores=cores)
    masked = np.zeros(codes.shape, bool)
    for shard in grid.shards():
        masked[shard.extent.slices] = mask.masked(shard.extent, codes.shape)
    assert (masked == brute_force(codes, buffer_m, pixel_m)).all()


def test_utm_costs_no_pixel_of_the_buffer():
    # 10 m in UTM are 10.004 m on the ground at the zone's meridian.
    assert buffer_px(100, (10.004, 10.004)) == (10, 10)
    cloud = np.zeros((1, 30), bool)
    cloud[0, 3] = True
    assert np.flatnonzero(within(cloud, 100, (10.004, 10.004))).tolist() == list(range(14))


@pytest.mark.parametrize("cloudy", [True, False])
def test_all_or_nothing(cloudy):
    cloud = np.full((5, 7), cloudy)
    assert (within(cloud, 30, (10, 10)) == cloudy).all()
