"""One multiply-add, and the guard against foreign values."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoforest.arrays.reflectance import (
    BandStatistics,
    distribution_warning,
    fold_normalisation,
)

TRAINING = {
    "bands": ("B04", "B08"),
    "mean": (500.0, 3000.0),
    "std": (300.0, 800.0),
    "reflectance_scale": 1e-4,
}


@given(
    scale=st.floats(1e-5, 1.0),
    offset=st.floats(-0.5, 0.5),
    dn=st.integers(0, 20_000),
)
def test_folding_equals_the_steps_one_by_one(scale, offset, dn):
    gain, bias = fold_normalisation(
        mean=TRAINING["mean"],
        std=TRAINING["std"],
        reflectance_scale=1e-4,
        scale=scale,
        offset=offset,
    )
    reflectance = dn * scale + offset
    expected = (reflectance / 1e-4 - np.array(TRAINING["mean"])) / np.array(TRAINING["std"])
    got = dn * gain.astype(float) + bias
    assert got == pytest.approx(expected, rel=1e-5, abs=1e-3 * max(1.0, float(abs(bias).max())))


@given(cut=st.integers(1, 19), seed=st.integers(0, 5))
def test_statistics_do_not_depend_on_the_cut(cut, seed):
    rng = np.random.default_rng(seed)
    dn, valid = rng.integers(0, 9000, (2, 20, 7)), rng.random((20, 7)) < 0.7
    whole = BandStatistics.of(dn, valid)
    parts = BandStatistics()
    parts += BandStatistics.of(dn[:, :cut], valid[:cut])
    parts += BandStatistics.of(dn[:, cut:], valid[cut:])
    assert parts == whole
    assert whole.mean == pytest.approx([band[valid].mean() for band in dn])
    assert whole.std == pytest.approx([band[valid].std() for band in dn])


def statistics(red: float, nir: float, spread: float) -> BandStatistics:
    rng = np.random.default_rng(0)
    dn = np.stack([rng.normal(mean, spread, (50, 50)) for mean in (red, nir)])
    return BandStatistics.of(dn, np.ones((50, 50), bool))


@pytest.mark.parametrize(
    ("found", "scale", "sentence"),
    [
        (statistics(600, 3200, 300), 1e-4, None),
        (statistics(1600, 4200, 300), 1e-4, r"\+1000 offset"),
        (statistics(0.06, 0.32, 0.03), 1e-4, "--scale 1"),
        (statistics(0.06, 0.32, 0.03), 1.0, None),
        (statistics(600, 100, 300), 1e-4, r"B08 mean reflectance 0.01"),
        (BandStatistics(), 1e-4, None),
    ],
)
def test_the_guard_names_the_usual_causes(found, scale, sentence):
    warning = distribution_warning(found, **TRAINING, scale=scale, offset=0.0)
    if sentence is None:
        assert warning is None
    else:
        assert warning is not None
        assert re.search(sentence, warning)
