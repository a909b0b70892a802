"""Reliability and temperature on pixels whose true chances are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from geoforest.arrays.scores import ProbabilityHistogram
from geoforest.arrays.stitch import quantise
from geoforest.train.calibration import (
    LogitHistogram,
    expected_calibration_error,
    fit_temperature,
    reliability,
)


def sample(temperature: float, n: int = 300_000) -> tuple[np.ndarray, np.ndarray]:
    """Truth drawn with the chance ``expit(z)``; a model that says ``expit(temperature * z)``."""
    rng = np.random.default_rng(3)
    logit = rng.normal(0, 2, n)
    truth = (rng.random(n) < expit(logit)).astype(np.uint8)
    return truth, expit(temperature * logit).astype(np.float32)


def histograms(
    truth: np.ndarray, probability: np.ndarray
) -> tuple[LogitHistogram, ProbabilityHistogram]:
    logits, stored = LogitHistogram(), ProbabilityHistogram.empty()
    logits.add(truth, probability)
    stored.add(truth, quantise(probability, truth != 255))
    return logits, stored


@pytest.mark.parametrize("temperature", [0.5, 1.6, 3.0])
def test_the_temperature_of_a_known_exaggeration_is_found(temperature):
    logits, stored = histograms(*sample(temperature))
    found = fit_temperature(logits)
    assert found == pytest.approx(temperature, rel=0.02)
    before = expected_calibration_error(reliability(stored))
    after = expected_calibration_error(reliability(logits.at(found)))
    assert before > 0.05
    assert after < 0.005


def test_a_calibrated_model_is_left_nearly_as_it_is():
    logits, _ = histograms(*sample(1.0))
    assert fit_temperature(logits) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("code", [0, 1])
def test_one_class_alone_tells_no_temperature(code):
    truth, probability = sample(2.0, 100)
    logits, _ = histograms(np.full_like(truth, code), probability)
    assert fit_temperature(logits) == 1.0


def test_the_histogram_of_logits_gives_the_stored_probabilities():
    truth, probability = sample(1.0, 50_000)
    truth[::7] = 255
    logits, stored = histograms(truth, probability)
    again = logits.at(1.0)
    assert again.forest.sum() == stored.forest.sum() == (truth == 1).sum()
    # A bin of logits is narrower than a step of probability: few pixels change theirs.
    assert np.abs(np.cumsum(again.forest - stored.forest)).max() < 200
    # Certain probabilities have no finite logit.
    logits.add(np.array([1, 0], np.uint8), np.array([1.0, 0.0], np.float32))
    assert logits.at(1.0).forest[250] >= 1


def test_reliability_bins():
    histogram = ProbabilityHistogram.empty()
    histogram.forest[[0, 24, 250]] = [1, 2, 3]
    histogram.other[[0, 25]] = [9, 5]
    first, second, last = reliability(histogram)
    assert (first.low, first.high, first.pixels) == (0.0, 0.1, 12)
    assert first.mean_probability == pytest.approx((0 * 10 + 2 * 24) / 12 / 250)
    assert first.forest_share == 3 / 12
    assert (second.low, second.pixels, second.forest_share) == (0.1, 5, 0.0)
    assert (last.high, last.pixels, last.forest_share) == (1.0, 3, 1.0)
    assert reliability(ProbabilityHistogram.empty()) == []
    assert expected_calibration_error([]) == 0
