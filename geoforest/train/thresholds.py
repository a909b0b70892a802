"""Fit temperature and threshold of a trained model on validation chips."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from geoforest.models.torch_runtime import TorchPredictor
from geoforest.train.calibration import (
    expected_calibration_error,
    fit_temperature,
    reliability,
)
from geoforest.train.evaluate import Evaluation, count_probabilities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geoforest.models.bundle import Bundle, ModelCard
    from geoforest.train.chips import Chip


def fit_threshold(
    bundle: Bundle, chips: Sequence[Chip], *, scale: float = 1e-4, device: str = "cpu"
) -> ModelCard:
    """Fit temperature and threshold on validation chips.

    Returns
    -------
    ModelCard
        Card of the bundle with temperature, threshold, its curve, and metrics.

    Raises
    ------
    GeoforestError
        When a probability is not finite.
    """
    predictor = TorchPredictor(bundle, device=device)
    # Logits do not depend on the temperature: the network runs once.
    logits = [_logits(predictor, chip, scale) for chip in chips]

    def evaluate_at(temperature: float) -> Evaluation:
        # Same arithmetic as the predictor, so that its later scores equal these bit for bit.
        probabilities = (
            torch.sigmoid(one.to(predictor.device) / temperature).cpu().numpy() for one in logits
        )
        return count_probabilities(chips, probabilities)

    evaluation = evaluate_at(1.0)
    histogram = evaluation.logits
    temperature = fit_temperature(histogram)
    if temperature != 1.0:
        evaluation = evaluate_at(temperature)
    threshold = evaluation.best_threshold()
    scores = evaluation.scores(threshold)
    scores["ece_uncalibrated"] = expected_calibration_error(reliability(histogram.at(1.0)))
    return bundle.card.model_copy(
        update={
            "temperature": temperature,
            "threshold": threshold,
            "threshold_curve": tuple(evaluation.curve()),
            "metrics": {f"validation_{name}": value for name, value in scores.items()},
        }
    )


def _logits(predictor: TorchPredictor, chip: Chip, scale: float) -> torch.Tensor:
    """Return the logits of a chip, float32 ``(row, col)``, on the CPU, which has room for all."""
    batch = predictor.prepare(chip.dn[None], scale, 0.0, chip.observed[None])
    return predictor.forward(batch)[0, 0].float().cpu()
