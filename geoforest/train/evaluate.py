"""Evaluate a predictor on labelled chips: counts per stored probability, for any threshold."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add
from typing import TYPE_CHECKING, Final

import numpy as np

from geoforest.arrays.scores import (
    Counts,
    ProbabilityHistogram,
    per_image,
    pooled,
    support_weighted,
)
from geoforest.arrays.stitch import quantise, threshold_step
from geoforest.errors import GeoforestError
from geoforest.models.bundle import ThresholdPoint
from geoforest.train.calibration import (
    LogitHistogram,
    ReliabilityBin,
    expected_calibration_error,
    reliability,
)
from geoforest.train.edges import RANGES_PX, distance_to_edge, in_range
from geoforest.types import NO_OBSERVATION, Mask, StoredProbability

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from geoforest.arrays.predict import Predictor
    from geoforest.train.chips import Chip

CURVE_THRESHOLDS: Final = (1e-6, 1e-3, *(step / 20 for step in range(1, 21)))
"""Thresholds of the precision-recall curve: 1e-6, 1e-3, 0.05, 0.10 ... 1.00."""


@dataclass(frozen=True)
class EdgeScore:
    """Errors among the pixels in one range of distance from the true edge of forest."""

    low_px: float
    high_px: float
    pixels: int
    errors: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions of a model for labelled chips, before any threshold.

    Attributes
    ----------
    chips
        Counts per stored probability, by name of the chip.
    stored
        Stored probability by name of the chip, uint8 ``(row, col)``.
    truth
        Mask codes by name of the chip, ``(row, col)``.
    logits
        Counts per logit of all chips, from probabilities before quantisation, for fitting a
        temperature.
    """

    chips: dict[str, ProbabilityHistogram]
    stored: dict[str, StoredProbability]
    truth: dict[str, Mask]
    logits: LogitHistogram

    @cached_property
    def total(self) -> ProbabilityHistogram:
        """Counts per stored probability, summed over all chips."""
        return reduce(add, self.chips.values(), ProbabilityHistogram.empty())

    @cached_property
    def edges(self) -> tuple[ProbabilityHistogram, ...]:
        """Counts per range of distance in :data:`geoforest.train.edges.RANGES_PX`."""
        edges = tuple(ProbabilityHistogram.empty() for _ in RANGES_PX)
        for name, truth in self.truth.items():
            distance = distance_to_edge(truth)
            for (low, high), histogram in zip(RANGES_PX, edges, strict=True):
                near = in_range(distance, low, high)
                histogram.add(np.where(near, truth, NO_OBSERVATION), self.stored[name])
        return edges

    def best_threshold(self) -> float:
        """Return the threshold of best pooled F1; use it with validation chips only."""
        return self.total.best_threshold()

    def counts(self, threshold: float) -> dict[str, Counts]:
        """Return the counts of each chip at a threshold, by name."""
        step = threshold_step(threshold)
        return {name: histogram.at(step) for name, histogram in self.chips.items()}

    def scores(self, threshold: float) -> dict[str, float]:
        """Return scores at a threshold, named as in :data:`geoforest.arrays.scores.DEFINITION`."""
        counts = list(self.counts(threshold).values())
        return {
            **pooled(counts),
            **{f"per_image_{name}": value for name, value in per_image(counts).items()},
            **{f"weighted_{name}": value for name, value in support_weighted(counts).items()},
            "ece": expected_calibration_error(self.reliability()),
        }

    def curve(self, thresholds: Sequence[float] = CURVE_THRESHOLDS) -> list[ThresholdPoint]:
        """Return the pooled precision-recall curve of the forest class."""
        total = self.total
        points = []
        for threshold in thresholds:
            scores = total.at(threshold_step(threshold)).scores()
            points.append(
                ThresholdPoint(
                    threshold=threshold,
                    precision=scores["precision"],
                    recall=scores["recall"],
                    f1=scores["f1"],
                )
            )
        return points

    def always_forest(self) -> dict[str, float]:
        """Return the scores of a mask that is forest everywhere, the baseline of any model."""
        return self.total.at(0).scores()

    def reliability(self) -> list[ReliabilityBin]:
        """Return the pooled reliability bins of the stored probabilities."""
        return reliability(self.total)

    def by_distance(self, threshold: float) -> list[EdgeScore]:
        """Return the errors per range of distance from the true edge of forest."""
        step = threshold_step(threshold)
        counts = [histogram.at(step) for histogram in self.edges]
        return [
            EdgeScore(low, high, count.pixels, count.fp + count.fn)
            for (low, high), count in zip(RANGES_PX, counts, strict=True)
        ]


def evaluate(predictor: Predictor, chips: Sequence[Chip], *, scale: float = 1e-4) -> Evaluation:
    """Predict each chip whole, in one pass, and count its stored probabilities.

    Parameters
    ----------
    predictor
        Called with one chip at a time.
    chips
        Chips of any size that the predictor takes.
    scale
        Reflectance is ``dn * scale``.

    Raises
    ------
    GeoforestError
        When a probability is not finite.
    """
    return count_probabilities(
        chips,
        (predictor(chip.dn[None], scale=scale, valid=chip.observed[None])[0] for chip in chips),
    )


def count_probabilities(
    chips: Sequence[Chip], probabilities: Iterable[NDArray[np.float32]]
) -> Evaluation:
    """Count probabilities, one float32 array ``(row, col)`` per chip.

    Raises
    ------
    GeoforestError
        When one is not finite, because weights are damaged or overflow.
    """
    by_chip: dict[str, ProbabilityHistogram] = {}
    stored: dict[str, StoredProbability] = {}
    logits = LogitHistogram()
    for chip, probability in zip(chips, probabilities, strict=True):
        if not np.isfinite(probability).all():
            raise GeoforestError(f"chip {chip.name}: the model gives no number for some pixels")
        logits.add(chip.mask, probability)
        stored[chip.name] = quantise(probability, chip.observed)
        by_chip[chip.name] = ProbabilityHistogram.empty()
        by_chip[chip.name].add(chip.mask, stored[chip.name])
    return Evaluation(by_chip, stored, {chip.name: chip.mask for chip in chips}, logits)
