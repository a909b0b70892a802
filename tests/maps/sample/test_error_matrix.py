"""Estimates from an error matrix: the paper's example, arithmetic by hand, coverage by chance."""

from __future__ import annotations

import math

import numpy as np
import pytest

from geoforest.maps.sample.error_matrix import Figure, estimates

# Olofsson et al. 2014, table 8: deforestation, gain, stable forest, stable other; pixels of 30 m.
COUNTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
HECTARES = np.array([200_000, 150_000, 3_200_000, 6_450_000]) * 0.09


class TestThePapersExample:
    found = estimates(COUNTS, HECTARES, [0, 1, 2, 3])

    def test_area(self):
        assert round(self.found.area[0]) == 21_158
        assert round(1.96 * self.found.area_se[0]) == 6_158
        assert self.found.area.sum() == pytest.approx(HECTARES.sum())

    def test_accuracies(self):
        users = [(0.88, 0.07), (0.73, 0.10), (0.93, 0.04), (0.96, 0.02)]
        for value, error, wanted in zip(self.found.users, self.found.users_se, users, strict=True):
            assert (round(value, 2), round(1.96 * error, 2)) == wanted
        assert round(self.found.producers[0], 2) == 0.75
        assert round(1.96 * self.found.producers_se[0], 2) == 0.21
        assert round(self.found.overall, 2) == 0.95
        assert round(1.96 * self.found.overall_se, 2) == 0.02

    def test_each_producers_variance_as_equation_7_has_it(self):
        n, pixels = COUNTS.sum(axis=1), HECTARES / 0.09
        share = COUNTS / n[:, None]
        in_class = (pixels[:, None] * share).sum(axis=0)
        for j in range(4):
            right = pixels[j] * share[j, j] / in_class[j]
            own = pixels[j] ** 2 * (1 - right) ** 2 * share[j, j] * (1 - share[j, j]) / (n[j] - 1)
            others = sum(
                pixels[i] ** 2 * share[i, j] * (1 - share[i, j]) / (n[i] - 1)
                for i in range(4)
                if i != j
            )
            variance = (own + right**2 * others) / in_class[j] ** 2
            assert self.found.producers[j] == pytest.approx(right)
            assert self.found.producers_se[j] == pytest.approx(math.sqrt(variance))


def test_by_hand():
    """Two strata of 100 and 300 ha, a tenth and a fifth of whose labels are of the other class."""
    found = estimates(np.array([[9, 1], [2, 8]]), np.array([100.0, 300.0]), [0, 1])
    assert found.hectares.tolist() == pytest.approx(np.array([[90, 10], [60, 240]]))
    assert found.area.tolist() == pytest.approx([150, 250])
    by_hand = math.sqrt(100**2 * 0.09 / 9 + 300**2 * 0.16 / 9)
    assert found.area_se.tolist() == pytest.approx([by_hand, by_hand])
    assert found.users.tolist() == pytest.approx([0.9, 0.8])
    assert found.users_se.tolist() == pytest.approx([0.1, math.sqrt(0.16 / 9)])
    assert found.producers.tolist() == pytest.approx([90 / 150, 240 / 250])
    assert found.overall == pytest.approx(330 / 400)
    assert found.overall_se == pytest.approx(by_hand / 400)


def test_a_stratum_that_says_nothing():
    """Its ground counts as area, and as omission; of accuracy it has none."""
    counts = np.array([[9, 1], [2, 8], [5, 5]])
    found = estimates(counts, np.array([100.0, 300.0, 40.0]), [0, 1, None])
    assert found.area.tolist() == pytest.approx([170, 270])
    assert np.isnan(found.users).tolist() == [False, False, True]
    assert found.producers.tolist() == pytest.approx([90 / 170, 240 / 270])
    assert found.overall == pytest.approx(330 / 400)


def test_a_class_never_found():
    found = estimates(np.array([[20, 0], [5, 0]]), np.array([10.0, 5.0]), [0, 1])
    assert math.isnan(found.producers[1])
    assert found.area[1] == found.users[1] == 0
    assert Figure.within(math.nan, math.nan, 1) is None
    assert Figure.within(0.95, 0.05, 1) == Figure(0.95, 0.05, 0.852, 1.0)


# A map of other and forest that takes 12 % of one and 9 % of the other wrong. Drawn as one would:
# more of the rarer class than its share. With 150 labels, 9 % of them wrong, an interval of two
# standard errors about a user's accuracy holds the truth in 93 % of cases only, as is known of it.
PIXELS = np.array([70_000, 30_000])
FOREST = np.array([8_400, 27_300])
DRAWN = np.array([400, 300])
REPETITIONS = 4000


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    """``(repetition, stratum, class)``: counts of samples without replacement, none alike."""
    rng = np.random.default_rng(7)
    forest = rng.hypergeometric(FOREST, PIXELS - FOREST, DRAWN, size=(REPETITIONS, 2))
    return np.stack([DRAWN - forest, forest], axis=-1)


def coverage(values: np.ndarray, errors: np.ndarray, truth: float) -> float:
    return float((np.abs(values - truth) <= 1.96 * errors).mean())


def test_intervals_hold_the_truth_as_often_as_they_say(samples):
    made = [estimates(counts, PIXELS * 0.01, [0, 1]) for counts in samples]
    right = np.array([PIXELS[0] - FOREST[0], FOREST[1]])
    in_class = np.array([(PIXELS - FOREST).sum(), FOREST.sum()])
    truths = {
        "area": in_class * 0.01,
        "users": right / PIXELS,
        "producers": right / in_class,
        "overall": right.sum() / PIXELS.sum(),
    }
    for name, truth in truths.items():
        values = np.array([getattr(each, name) for each in made])
        errors = np.array([getattr(each, f"{name}_se") for each in made])
        for place, wanted in enumerate(np.atleast_1d(truth)):
            of_one = (each.reshape(REPETITIONS, -1)[:, place] for each in (values, errors))
            # Of 4000 repetitions the share varies by 0.0034.
            assert 0.93 < coverage(*of_one, wanted) < 0.97, (name, place)
        assert values.mean(axis=0) == pytest.approx(truth, rel=2e-3)


def test_wrong_formulas_would_be_found_out(samples):
    truth = FOREST.sum() / PIXELS.sum()
    n = DRAWN.sum()
    pooled = samples[..., 1].sum(axis=1) / n
    simple = np.sqrt(pooled * (1 - pooled) / (n - 1))
    # Labels in one heap, as if the sample had not been stratified.
    assert coverage(pooled, simple, truth) < 0.05
    # Right weights, but the error of a simple random sample.
    weighted = np.array(
        [estimates(each, PIXELS / PIXELS.sum(), [0, 1]).area[1] for each in samples]
    )
    assert coverage(weighted, np.sqrt(weighted * (1 - weighted) / (n - 1)), truth) > 0.98
    # The map's own pixels: a bias that no interval knows of.
    assert abs(PIXELS[1] / PIXELS.sum() - truth) > 0.05
