"""Distances to the edge of forest against the slow and obvious way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geoforest.train.edges import RANGES_PX, distance_to_edge, in_range


@given(arrays(np.uint8, (6, 7), elements=st.sampled_from([0, 1, 255])))
def test_the_nearest_pixel_of_the_other_class(truth):
    distance = distance_to_edge(truth)
    for (row, col), code in np.ndenumerate(truth):
        if code == 255:
            assert np.isnan(distance[row, col])
            continue
        there = np.argwhere(truth == 1 - code)
        expected = np.hypot(*(there - (row, col)).T).min() if len(there) else np.inf
        assert distance[row, col] == pytest.approx(expected)


def test_each_labelled_pixel_lies_in_one_range():
    rng = np.random.default_rng(0)
    truth = (rng.random((64, 64)) < 0.01).astype(np.uint8)
    truth[:5] = 255
    for mask in (truth, np.zeros_like(truth)):
        distance = distance_to_edge(mask)
        times = sum(in_range(distance, low, high).astype(int) for low, high in RANGES_PX)
        assert (times == (mask != 255)).all()
