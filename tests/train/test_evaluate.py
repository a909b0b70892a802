"""A predictor judged on chips: every number against masks made the plain way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from geoforest.arrays.scores import Counts, per_image, pooled, support_weighted
from geoforest.arrays.stitch import mask_from_probability, quantise
from geoforest.errors import GeoforestError
from geoforest.models.torch_runtime import TorchPredictor
from geoforest.train.chips import Chip
from geoforest.train.edges import distance_to_edge
from geoforest.train.evaluate import evaluate
from geoforest.train.thresholds import fit_threshold
from tests.helpers import synthetic
from tests.helpers.synthetic import LocalPredictor

THRESHOLD = 0.37


@pytest.fixture(scope="module")
def chips() -> list[Chip]:
    made = []
    for seed in range(3):
        dn = synthetic.digital_numbers((64, 96), seed=seed)
        mask = (dn[0] < 550).astype(np.uint8)
        mask[10 * seed :, :9] = 255
        observed = np.ones(mask.shape, bool)
        observed[:, -5:] = False
        mask[~observed] = 255
        made.append(Chip(f"chip{seed}", dn, mask, observed))
    return made


@pytest.fixture(scope="module")
def masks(chips) -> list[np.ndarray]:
    predictor = LocalPredictor()
    return [
        mask_from_probability(
            quantise(predictor(chip.dn[None], valid=chip.observed[None])[0], chip.observed),
            THRESHOLD,
        )
        for chip in chips
    ]


def test_scores_are_those_of_the_masks(chips, masks):
    evaluation = evaluate(LocalPredictor(), chips)
    counts = [Counts.of(chip.mask, mask) for chip, mask in zip(chips, masks, strict=True)]
    assert list(evaluation.counts(THRESHOLD).values()) == counts
    scores = evaluation.scores(THRESHOLD)
    assert scores["f1"] == pooled(counts)["f1"]
    assert scores["mean_iou"] == pooled(counts)["mean_iou"]
    assert scores["per_image_iou"] == per_image(counts)["iou"]
    assert scores["weighted_recall"] == support_weighted(counts)["recall"]
    assert 0 < scores["ece"] < 1


def test_the_curve_has_the_best_threshold_and_falls_off_beside_it(chips):
    evaluation = evaluate(LocalPredictor(), chips)
    best = evaluation.best_threshold()
    curve = evaluation.curve()
    assert len(curve) == 22
    assert (curve[0].threshold, curve[1].threshold, curve[-1].threshold) == (1e-6, 1e-3, 1.0)
    recalls = [point.recall for point in curve]
    assert recalls == sorted(recalls, reverse=True)
    assert max(point.f1 for point in curve) <= evaluation.curve([best])[0].f1


def test_always_forest_is_the_share_of_forest(chips):
    truth = np.concatenate([chip.mask.ravel() for chip in chips])
    scores = evaluate(LocalPredictor(), chips).always_forest()
    assert scores["recall"] == 1
    assert scores["precision"] == scores["accuracy"] == (truth == 1).sum() / (truth != 255).sum()


def test_errors_by_distance_add_up(chips, masks):
    edges = evaluate(LocalPredictor(), chips).by_distance(THRESHOLD)
    wrong = [
        (chip.mask != mask) & (chip.mask != 255) for chip, mask in zip(chips, masks, strict=True)
    ]
    assert sum(edge.errors for edge in edges) == sum(int(one.sum()) for one in wrong)
    assert sum(edge.pixels for edge in edges) == sum(int(chip.labelled.sum()) for chip in chips)
    touching = [distance_to_edge(chip.mask) <= 1 for chip in chips]
    assert edges[0].pixels == sum(int(one.sum()) for one in touching)
    assert edges[0].errors == sum(
        int((near & bad).sum()) for near, bad in zip(touching, wrong, strict=True)
    )


def test_the_predictor_sees_all_that_was_observed(chips):
    """As in a scene: pixels without a label are left out of the scores, not of the input."""
    seen = []

    class Watched(LocalPredictor):
        def __call__(self, dn, scale=1e-4, offset=0.0, valid=None):
            seen.append(valid[0])
            return super().__call__(dn, scale, offset, valid)

    evaluation = evaluate(Watched(), chips)
    for chip, valid in zip(chips, seen, strict=True):
        assert (valid == chip.observed).all()
        assert valid.sum() > chip.labelled.sum()
    pixels = [counts.pixels for counts in evaluation.counts(THRESHOLD).values()]
    assert pixels == [int(chip.labelled.sum()) for chip in chips]


def test_a_trained_model_is_judged_as_it_will_predict(tiny_bundle, chips, monkeypatch):
    """Its network is asked once a chip, whatever the temperature."""
    asked = []
    forward = TorchPredictor.forward

    def counting(self, batch):
        asked.append(len(batch))
        return forward(self, batch)

    monkeypatch.setattr(TorchPredictor, "forward", counting)
    monkeypatch.setattr("geoforest.train.thresholds.fit_temperature", lambda histogram: 1.7)
    card = fit_threshold(tiny_bundle, chips)
    assert asked == [1, 1, 1]
    assert card.temperature == 1.7
    again = evaluate(TorchPredictor(replace(tiny_bundle, card=card)), chips)
    scores = {f"validation_{name}": value for name, value in again.scores(card.threshold).items()}
    assert scores == {k: v for k, v in card.metrics.items() if not k.endswith("uncalibrated")}
    assert card.threshold_curve == tuple(again.curve())
    plain = evaluate(TorchPredictor(tiny_bundle), chips).scores(0.5)["ece"]
    assert card.metrics["validation_ece_uncalibrated"] == pytest.approx(plain, abs=1e-3)


def test_a_model_that_gives_no_numbers_is_named_so(chips):
    class Overflown(LocalPredictor):
        def __call__(self, dn, scale=1e-4, offset=0.0, valid=None):
            return np.full_like(super().__call__(dn, scale, offset, valid), np.nan)

    with pytest.raises(GeoforestError, match="chip chip0: the model gives no number"):
        evaluate(Overflown(), chips)
