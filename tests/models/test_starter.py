"""The bundle that ships is able to see a forest; its card is tested with its script."""

from __future__ import annotations

import pytest

from geoforest.arrays.scores import Counts
from geoforest.arrays.stitch import mask_from_probability, quantise
from geoforest.models.registry import open_model
from geoforest.models.torch_runtime import TorchPredictor
from geoforest.scenes.synthetic import make_chips


@pytest.fixture(scope="module")
def bundle():
    return open_model()


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
