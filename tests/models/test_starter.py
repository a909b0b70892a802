"""The bundle that ships: small enough, honest in its card, and able to see a forest."""

from __future__ import annotations

import pytest

from geoforest.models.registry import bundled_path, open_model
from geoforest.models.torch_runtime import TorchPredictor
from geoforest.stitch import mask_from_probability, quantise
from geoforest.synthetic import make_chips
from geoforest.train.metrics import Counts


@pytest.fixture(scope="module")
def bundle():
    return open_model()


def test_size():
    assert sum(path.stat().st_size for path in bundled_path().iterdir()) < 45e6


def test_card(bundle):
    card = bundle.card
    assert card.bands == ("B04", "B03", "B02", "B08")
    assert card.metrics["validation_f1"] > 0.9
    assert {"validation_iou", "validation_precision", "validation_recall"} <= card.metrics.keys()
    best = max(point.f1 for point in card.threshold_curve)
    assert best <= card.metrics["validation_f1"] + 1e-9
    assert "not an Amazon product" in card.notes
    assert "unstated licence" in card.notes
    assert card.seed is not None
    assert card.training["history"]


@pytest.mark.slow
def test_accuracy_on_synthetic_chips(bundle):
    images, masks = make_chips(seed=11, n_chips=4, side=256)
    predictor = TorchPredictor(bundle)
    counts = Counts()
    for image, truth in zip(images, masks, strict=True):
        stored = quantise(predictor(image[None])[0], truth != 255)
        counts += Counts.of(truth, mask_from_probability(stored, bundle.card.threshold))
    scores = counts.scores()
    assert scores["accuracy"] > 0.93, scores
    assert scores["f1"] > 0.93, scores
