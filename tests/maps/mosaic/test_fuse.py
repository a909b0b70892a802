"""Observations of one pixel become one: against the rule, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoforest.maps.mosaic.fuse import fuse

PIXEL = st.sampled_from([0, 1, 124, 125, 249, 250, 255])
STACK = st.lists(st.lists(PIXEL, min_size=6, max_size=6), min_size=1, max_size=5)


def whole(values: list[int]) -> tuple[slice, slice, np.ndarray]:
    return slice(0, 2), slice(0, 3), np.array(values, np.uint8).reshape(2, 3)


@given(STACK, st.sampled_from(["mean", "latest", "clearest"]))
def test_each_pixel_by_the_rule(stack, rule):
    stored, count = fuse([whole(values) for values in stack], (2, 3), rule)
    for place, values in enumerate(zip(*stack, strict=True)):
        seen = [value for value in values if value != 255]
        expected = 255
        if seen:
            expected = math.floor(sum(seen) / len(seen) + 0.5) if rule == "mean" else seen[0]
        assert stored.ravel()[place] == expected
        assert count.ravel()[place] == len(seen)


@given(STACK, st.randoms())
def test_the_mean_does_not_depend_on_the_order(stack, random):
    other = random.sample(stack, len(stack))
    one, two = (fuse([whole(values) for values in some], (2, 3), "mean") for some in (stack, other))
    assert np.array_equal(one[0], two[0])


@pytest.mark.parametrize("rule", ["mean", "latest"])
def test_parts_and_many_observations(rule):
    part = slice(1, 2), slice(0, 2), np.array([[7, 255]], np.uint8)
    stored, count = fuse([part] * 300, (2, 3), rule)
    assert stored.tolist() == [[255, 255, 255], [7, 255, 255]]
    assert count.tolist() == [[0, 0, 0], [255, 0, 0]]
