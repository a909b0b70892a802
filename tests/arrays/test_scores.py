"""Counts first, then one division, against a plain loop over pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geoforest.arrays.scores import (
    Counts,
    ProbabilityHistogram,
    per_image,
    pooled,
    support_weighted,
)
from geoforest.arrays.stitch import mask_from_probability

masks = arrays(np.uint8, (4, 5), elements=st.sampled_from([0, 1, 255]))


def by_hand(truth: np.ndarray, predicted: np.ndarray) -> Counts:
    table = {(1, 1): 0, (0, 1): 0, (1, 0): 0, (0, 0): 0}
    for t, p in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True):
        if 255 not in (t, p):
            table[t, p] += 1
    return Counts(table[1, 1], table[0, 1], table[1, 0], table[0, 0])


@given(truth=masks, predicted=masks)
def test_counts(truth, predicted):
    assert Counts.of(truth, predicted) == by_hand(truth, predicted)


def test_scores():
    scores = Counts(tp=6, fp=2, fn=3, tn=9).scores()
    assert scores == pytest.approx(
        {"f1": 12 / 17, "iou": 6 / 11, "precision": 6 / 8, "recall": 6 / 9, "accuracy": 15 / 20}
    )


@pytest.mark.parametrize(
    ("counts", "f1", "precision", "recall"),
    [
        (Counts(tn=5), 1, 1, 1),
        (Counts(fn=5), 0, 0, 0),
        (Counts(fp=5), 0, 0, 0),
    ],
)
def test_ratios_without_a_denominator(counts, f1, precision, recall):
    scores = counts.scores()
    assert (scores["f1"], scores["precision"], scores["recall"]) == (f1, precision, recall)


@settings(deadline=None)
@given(
    truth=arrays(np.uint8, (3, 4), elements=st.sampled_from([0, 1, 255])),
    stored=arrays(np.uint8, (3, 4), elements=st.sampled_from([0, 3, 120, 125, 126, 250, 255])),
)
def test_the_histogram_judges_every_threshold_as_its_mask_would(truth, stored):
    histogram = ProbabilityHistogram.empty()
    histogram.add(truth, stored)
    for step in (1, 3, 4, 125, 126, 250):
        mask = mask_from_probability(stored, step / 250)
        assert histogram.at(step) == Counts.of(truth, mask)
    best = histogram.at(round(histogram.best_threshold() * 250)).scores()["f1"]
    assert best == max(histogram.at(step).scores()["f1"] for step in range(1, 251))


def chips_of(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[Counts]:
    return [Counts.of(truth, predicted) for truth, predicted in pairs]


@given(pairs=st.lists(st.tuples(masks, masks), min_size=1, max_size=4))
def test_aggregations_against_a_plain_loop(pairs):
    counts = chips_of(pairs)
    truth, predicted = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1))
    total = by_hand(truth, predicted)
    assert pooled(counts) == pytest.approx(
        {
            **total.scores(),
            "mean_iou": (total.scores()["iou"] + flipped(total).scores()["iou"]) / 2,
        }
    )
    labelled = [one.scores() for one in counts if one.pixels]
    if labelled:
        for name, value in per_image(counts).items():
            assert value == pytest.approx(np.mean([scores[name] for scores in labelled]))
    forest, other = total.tp + total.fn, total.tn + total.fp
    if forest + other:
        for name, value in support_weighted(counts).items():
            expected = forest * total.scores()[name] + other * flipped(total).scores()[name]
            assert value == pytest.approx(expected / (forest + other))


def flipped(counts: Counts) -> Counts:
    return by_hand(*(1 - np.array(side, np.int16) for side in as_pixels(counts)))


def as_pixels(counts: Counts) -> tuple[list[int], list[int]]:
    truth = [1] * counts.tp + [0] * counts.fp + [1] * counts.fn + [0] * counts.tn
    predicted = [1] * counts.tp + [1] * counts.fp + [0] * counts.fn + [0] * counts.tn
    return truth, predicted


def test_aggregations_are_different_numbers():
    counts = [Counts(tp=1, fp=1), Counts(tp=8, tn=8)]
    assert pooled(counts)["precision"] == 9 / 10
    assert per_image(counts)["precision"] == (1 / 2 + 1) / 2
    assert support_weighted(counts)["precision"] == pytest.approx((9 * 9 / 10 + 9 * 1) / 18)
