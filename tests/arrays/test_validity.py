"""Which pixels were observed: edges of the swath, dark ground, and values that no surface has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoforest.arrays.validity import (
    BEYOND,
    BLANK,
    DARK,
    EDGE,
    MISSING,
    OBSERVED,
    REACH_PX,
    SATURATED,
    STRIPE,
    ValueCounts,
    ValueRules,
    clipped,
    commonest,
    judge,
    observed,
)

BANDS = ("B04", "B03", "B02", "B08")
ZERO = ValueRules(BANDS, (0,) * 4, (1e-4,) * 4, (0.0,) * 4)
UNTAGGED = replace(ZERO, nodata=(None,) * 4, zero_is_nodata=True)
WITH_OFFSET = replace(ZERO, offset=(-0.1,) * 4)
OPEN = replace(ZERO, nodata=(None,) * 4)
FOREST, PASTURE = (300, 450, 280, 3000), (1100, 1000, 800, 2600)


def ground(shape=(60, 60), values=FOREST, dtype="uint16") -> np.ndarray:
    rng = np.random.default_rng(0)
    noisy = np.array(values)[:, None, None] * (1 + 0.05 * rng.standard_normal((4, *shape)))
    return noisy.astype(dtype)


def one(values, rules, dtype="uint16") -> int:
    """Judge a pixel far from any other kind of ground."""
    dn = ground(dtype=dtype)
    dn[:, 30, 30] = values
    codes, _ = judge(dn, rules)
    codes = codes.copy()
    code, codes[30, 30] = codes[30, 30], OBSERVED
    assert not codes.any()
    return int(code)


@pytest.mark.parametrize("rules", [ZERO, UNTAGGED])
@pytest.mark.parametrize(
    ("values", "code"),
    [
        ((0, 0, 0, 0), MISSING),
        ((1, 1, 1, 1), MISSING),
        ((3, 0, 5, 10), MISSING),
        ((11, 0, 5, 10), DARK),
        ((30, 60, 0, 40), DARK),  # a lake
        ((0, 45, 20, 0), DARK),  # deep shadow
        ((0, 120, 30, 3600), DARK),  # dark forest
        ((0, 499, 30, 3600), DARK),
        ((0, 500, 30, 3600), EDGE),  # the footprint of a band ends before the others'
        ((700, 900, 600, 0), DARK),
        ((1500, 900, 600, 0), EDGE),
        (FOREST, OBSERVED),
    ],
)
def test_zero_in_a_band(values, code, rules):
    if rules is UNTAGGED and code == EDGE:
        code = DARK  # nothing states that 0 alone means anything
    assert one(values, rules) == code
    assert one(values, rules, "int16") == code


def test_thresholds_follow_the_scale():
    fine = replace(ZERO, scale=(1e-5,) * 4)
    dn = np.array([[[100, 101, 0, 0]], [[0, 0, 4999, 5000]], [[9] * 4], [[9] * 4]], np.uint16)
    assert judge(dn, fine)[0].tolist() == [[MISSING, DARK, DARK, EDGE]]
    fractions = replace(ZERO, scale=(1.0,) * 4)
    values = (dn * 1e-5).astype(np.float32)
    assert judge(values, fractions)[0].tolist() == [[MISSING, DARK, DARK, EDGE]]


def test_fractions_whose_scale_was_not_given_are_not_all_dark():
    dn = ground(dtype="float32") / 10_000
    for rules in (ZERO, UNTAGGED):
        assert observed(dn, rules).all()


def test_bytes_are_missing_where_all_bands_are_0():
    dn = ground(values=(2, 5, 3, 9), dtype="uint8") + np.uint8(1)
    dn[:, :5], dn[1, 40, 40] = 0, 0
    codes, _ = judge(dn, ZERO)
    assert (codes[:5] == MISSING).all()
    assert codes[40, 40] == DARK
    assert (codes[5:] < MISSING).all()


def test_where_an_offset_is_to_come_0_in_any_band_is_unobserved():
    assert one((0, 1450, 1280, 4000), WITH_OFFSET) == EDGE
    assert one((1, 2, 3, 4), WITH_OFFSET) == MISSING
    assert one((0, 0, 0, 0), WITH_OFFSET) == MISSING
    assert one((20, 60, 12, 40), WITH_OFFSET) == OBSERVED
    landsat = replace(ZERO, scale=(2.75e-5,) * 4, offset=(-0.2,) * 4)
    assert one((0, 9000, 9000, 9000), landsat) == EDGE
    assert one((1, 9000, 9000, 9000), landsat) == OBSERVED


def test_the_fringe_of_a_swath():
    dn = ground()
    dn[:, :, :20] = 0
    dn[0, :, 20:25] = 0  # the red band ends five pixels before the others
    dn[:, :, 18:20] = np.random.default_rng(1).integers(0, 6, (4, 60, 2))  # JPEG 2000
    dn[3, 5, 44] = dn[3, 5, 36] = 0  # water, far away and near
    codes, _ = judge(dn, ZERO)
    assert (codes[:, :20] == MISSING).all()
    assert (codes[:, 20:25] == EDGE).all()
    assert (codes[5, 44], codes[5, 36], codes[5, 30]) == (DARK, OBSERVED + DARK, OBSERVED)
    dn[3, 5, 34] = 0
    assert judge(dn, ZERO)[0][5, 34] == EDGE


def test_a_stripe_of_one_value_beside_missing_pixels_is_told():
    dn = ground()
    dn[:, :, :20], dn[:, :, 20:22], dn[:, 30, 50] = 0, 1000, 800
    codes, _ = judge(dn, ZERO)
    assert (codes[:, 20:22] == STRIPE).all()
    assert codes[30, 50] == OBSERVED  # one value in all bands, but far away
    counts = ValueCounts.of(dn, codes, ZERO, np.ones(codes.shape, bool))
    assert (counts.stripe, counts.stripe_values) == (120, {"1000": 120})
    assert observed(dn, ZERO)[:, 20:].all()


@pytest.mark.parametrize(
    ("dtype", "rules", "value"),
    [
        ("uint16", ZERO, 65535),
        ("uint16", ZERO, 64001),
        ("uint16", WITH_OFFSET, 65535),
        ("int16", UNTAGGED, -10000),
        ("int16", UNTAGGED, -9999),
        ("int16", UNTAGGED, 32767),
        ("int16", ZERO, -32768),
        ("float32", replace(OPEN, scale=(1.0,) * 4), 2147483647),
        ("float32", replace(OPEN, scale=(1.0,) * 4), 65535),
        ("float32", replace(OPEN, scale=(1.0,) * 4), -9999),
        ("float32", OPEN, -3.4028234663852886e38),
        ("float64", OPEN, 1e30),
        ("uint32", ZERO, 4294967295),
    ],
)
def test_values_that_no_surface_has(dtype, rules, value):
    dn = ground()
    if rules.scale[0] == 1:
        dn = dn / 10_000
    dn = dn.astype(dtype)
    dn[:, 3, 4], dn[2, 50, 51] = value, value
    codes, _ = judge(dn, rules)
    assert np.argwhere(codes != OBSERVED).tolist() == [[3, 4], [50, 51]]
    assert (codes[3, 4], codes[50, 51]) == (BEYOND, BEYOND)
    counts = ValueCounts.of(dn, codes, rules, np.ones(codes.shape, bool))
    assert (counts.beyond, counts.beyond_by_band) == (2, [1, 1, 2, 1])
    assert float(commonest(counts.beyond_values)) == pytest.approx(value, rel=1e-7)


def test_bright_and_dark_ground_is_observed():
    bright = [16_000, 20_000, 24_280]  # cloud, snow and metal in real products
    for value in bright:
        assert one((value,) * 4, replace(ZERO, zero_is_nodata=False)) == OBSERVED
    assert one((-900, -300, -1000, 200), OPEN, "int16") == OBSERVED
    assert one((1, 10, 100, 900), WITH_OFFSET) == OBSERVED


def test_a_stated_value_is_not_counted_as_beyond():
    rules = replace(ZERO, nodata=(-9999,) * 4)
    dn = ground(dtype="int16")
    dn[:, :5], dn[:, 50, 50], dn[1, 40, 40] = -9999, 0, -9999
    codes, _ = judge(dn, rules)
    assert (codes[:5] == MISSING).all()
    assert codes[40, 40] == MISSING
    assert codes[50, 50] == OBSERVED
    counts = ValueCounts.of(dn, codes, rules, np.ones(codes.shape, bool))
    assert (counts.beyond, counts.edge, counts.dark) == (0, 0, 0)


def test_nodata_of_single_bands_nan_and_masks():
    rules = replace(ZERO, nodata=(None, 0, None, None))
    dn = ground()
    dn[0, 1, 1] = dn[1, 2, 2] = 0
    hidden = np.zeros(dn.shape[1:], bool)
    hidden[3, 3] = True
    codes, _ = judge(dn, rules, hidden)
    assert np.argwhere(codes).tolist() == [[2, 2], [3, 3]]
    values = ground(dtype="float32")
    values[0, 4, 4], values[1, 5, 5] = np.nan, np.inf
    assert np.argwhere(~observed(values, replace(OPEN, nodata=(np.nan,) * 4))).tolist() == [
        [4, 4],
        [5, 5],
    ]


def test_the_value_of_saturated_detectors():
    rules = replace(ZERO, saturated=20_000)
    dn = ground()
    dn[1, 7, 8], dn[1, 9, 9] = 20_000, 19_999
    codes, _ = judge(dn, rules)
    assert np.argwhere(codes).tolist() == [[7, 8]]
    assert codes[7, 8] == SATURATED


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), row=st.integers(0, 40), col=st.integers(0, 40))
def test_no_code_depends_on_pixels_beyond_the_reach(seed, row, col):
    rng = np.random.default_rng(seed)
    dn = rng.choice(np.array([0, 3, 40, 600, 3000, 65535], np.uint16), (4, 90, 90))
    dn[:, rng.random((90, 90)) < 0.5] = 500
    for _ in range(4):
        top, left = rng.integers(0, 80, 2)
        dn[:, top : top + rng.integers(1, 12), left : left + rng.integers(1, 12)] = 0
    whole, _ = judge(dn, ZERO)
    alone, is_open = judge(dn[:, row : row + 30, col : col + 30], ZERO)
    inner = slice(row, row + 30), slice(col, col + 30)
    if not is_open:
        assert (alone == whole[inner]).all()
    top, left = max(0, row - REACH_PX), max(0, col - REACH_PX)
    around, _ = judge(dn[:, top : row + 30 + REACH_PX, left : col + 30 + REACH_PX], ZERO)
    cut = around[row - top : row - top + 30, col - left : col - left + 30]
    assert (cut == whole[inner]).all()


class TestClipped:
    def test_nothing_to_clip_is_no_copy(self):
        dn = ground()
        assert clipped(dn, ZERO) is dn

    @pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
    def test_within_reflectance(self, dtype):
        dn = ground(dtype=dtype)
        dn[:, 0, 0], dn[1, 1, 1] = 20_000, 9_999
        if dtype != "uint16":
            dn[:, 2, 2] = -300
        before = dn.copy()
        result = clipped(dn, ZERO)
        assert (dn == before).all()
        assert (result.dtype, result.shape) == (dn.dtype, dn.shape)
        assert result[:, 0, 0] == pytest.approx(10_000, abs=0.02)
        assert result[1, 1, 1] == 9_999
        if dtype != "uint16":
            assert result[:, 2, 2] == pytest.approx(0, abs=0.02)
        assert (result[:, 3:] == before[:, 3:]).all()

    def test_an_offset_is_heeded(self):
        dn = ground(values=(1300, 1400, 1280, 4000))
        dn[:, 0, 0], dn[:, 1, 1] = 15_000, 500
        result = clipped(dn, WITH_OFFSET)
        assert result[:, 0, 0].tolist() == [11_000] * 4
        assert result[:, 1, 1].tolist() == [1_000] * 4

    def test_bytes_and_nan(self):
        assert clipped(np.full((4, 2, 2), 255, np.uint8), ZERO).max() == 255
        nan = np.full((4, 2, 2), np.nan, np.float32)
        assert np.isnan(clipped(nan, ZERO)).all()


def test_counts_add_up():
    dn = ground()
    dn[:, :, :20], dn[0, :, 20:25], dn[1, 50, 50:55], dn[2, 40, 50] = 0, 0, 65535, 0
    codes, _ = judge(dn, ZERO)
    counted = np.ones(codes.shape, bool)
    whole = ValueCounts.of(dn, codes, ZERO, counted)
    assert (whole.beyond, whole.beyond_values) == (5, {"65535": 5})
    assert (whole.edge, whole.dark) == (300, 1)
    parts = ValueCounts()
    for rows in (slice(0, 45), slice(45, 60)):
        parts += ValueCounts.of(dn[:, rows], codes[rows], ZERO, counted[rows])
    assert parts == whole
    counted[:, 22] = False
    assert ValueCounts.of(dn, codes, ZERO, counted).edge == 240


def test_fractions_that_are_0_in_all_bands_are_told():
    dn = ground(dtype="float32") / 10_000
    dn[:, :5], dn[1, 40, 40] = 0, 0
    rules = replace(OPEN, scale=(1.0,) * 4)
    codes, _ = judge(dn, rules)
    assert (codes[:5] == BLANK).all()
    assert not codes[5:].any()
    assert observed(dn, rules).all()
    assert not judge(dn, replace(rules, nodata=(np.nan,) * 4))[0].any()


def test_floats_that_were_integers_are_judged_as_those():
    dn = ground()
    dn[:, :, :20], dn[:, 40, 40], dn[0, 50, 50] = 0, 9, 0
    rules = replace(ZERO, was_integer=True)
    assert (judge(dn.astype("float32"), rules)[0] == judge(dn, ZERO)[0]).all()


@pytest.mark.parametrize("rules", [{"nodata": (0,) * 4}, {"zero_is_nodata": True}])
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_slightly_negative_water_is_observed(rules, dtype):
    """Products with their offset applied have such values; only 0 and remains of it are missing."""
    dn = np.full((4, 40, 60), 800, dtype)
    dn[:, 10:20, 10:20] = -20
    dn[:, :, 40:] = 0
    dn[:, :, 38:40] = 5
    usual = {"bands": BANDS, "nodata": (None,) * 4, "scale": (1e-4,) * 4, "offset": (0.0,) * 4}
    seen = observed(dn, ValueRules(**{**usual, **rules, "was_integer": dtype == "float32"}))
    assert seen[:, :38].all()
    assert not seen[:, 38:].any()
