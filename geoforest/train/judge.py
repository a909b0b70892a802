"""Temperature and threshold of a trained model, chosen on validation chips."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from geoforest.models.torch_runtime import TorchPredictor
from geoforest.train.calibration import (
    expected_calibration_error,
    fit_temperature,
    reliability,
)
from geoforest.train.evaluate import Evaluation, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geoforest.models.bundle import Bundle, ModelCard
    from geoforest.train.chips import Chip


def judged_card(
    bundle: Bundle, chips: Sequence[Chip], *, scale: float = 1e-4, device: str = "cpu"
) -> ModelCard:
    """Choose temperature and threshold on validation chips.

    Returns
    -------
    ModelCard
        That of the bundle with temperature, threshold, its curve, and metrics.

    Raises
    ------
    GeoforestError
        When the model gives no numbers.
    """
    predictor = TorchPredictor(bundle, device=device)
    # A temperature moves no logit: the network is asked once.
    logits = [_logits(predictor, chip, scale) for chip in chips]

    def judge(temperature: float) -> Evaluation:
        # The arithmetic of the predictor, so that it will score as it is judged here, bit for bit.
        probabilities = (
            torch.sigmoid(one.to(predictor.device) / temperature).cpu().numpy() for one in logits
        )
        return counted(chips, probabilities)

    evaluation = judge(1.0)
    histogram = evaluation.logits
    temperature = fit_temperature(histogram)
    if temperature != 1.0:
        evaluation = judge(temperature)
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
    """Logits of a chip, float32 ``(row, col)``, on the CPU: on the device there may be no room."""
    batch = predictor.prepare(chip.dn[None], scale, 0.0, chip.observed[None])
    return predictor.forward(batch)[0, 0].float().cpu()
