"""Scores of the forest class: count first over all chips, then divide once. Arrays only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoforest.types import FOREST, NO_OBSERVATION, PROBABILITY_STEPS, Mask, StoredProbability

DEFINITION = (
    "pooled over all pixels of the split: counts are added up over chips, then divided once; "
    "forest is the positive class; pixels of code 255 are left out; a ratio without a "
    "denominator is 1 when there was nothing to find and nothing was found, else 0"
)


@dataclass(frozen=True)
class Counts:
    """Pixels by truth and prediction, forest positive.

    Examples
    --------
    >>> truth = np.array([1, 1, 0, 0, 255], np.uint8)
    >>> Counts.of(truth, np.array([1, 0, 1, 0, 1], np.uint8))
    Counts(tp=1, fp=1, fn=1, tn=1)
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    @classmethod
    def of(cls, truth: Mask, predicted: Mask) -> Counts:
        """Count two masks of the same shape; 255 in either leaves a pixel out."""
        seen = (truth != NO_OBSERVATION) & (predicted != NO_OBSERVATION)
        is_forest, found = truth[seen] == FOREST, predicted[seen] == FOREST
        tp = int((is_forest & found).sum())
        return cls(
            tp, int(found.sum()) - tp, int(is_forest.sum()) - tp, int((~is_forest & ~found).sum())
        )

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn
        )

    def scores(self) -> dict[str, float]:
        """F1, IoU, precision, recall and accuracy; see :data:`DEFINITION`."""
        tp, fp, fn, tn = self.tp, self.fp, self.fn, self.tn
        return {
            "f1": _ratio(2 * tp, 2 * tp + fp + fn),
            "iou": _ratio(tp, tp + fp + fn),
            "precision": _ratio(tp, tp + fp, empty=float(fn == 0)),
            "recall": _ratio(tp, tp + fn, empty=float(fp == 0)),
            "accuracy": _ratio(tp + tn, tp + fp + fn + tn),
        }


@dataclass(frozen=True, eq=False)
class ProbabilityHistogram:
    """Pixels of each stored probability, apart for forest and other in truth.

    All thresholds can be judged from it, exactly as masks of that threshold would be.

    Attributes
    ----------
    forest, other
        int64 ``(251,)``.
    """

    forest: NDArray[np.int64]
    other: NDArray[np.int64]

    @classmethod
    def empty(cls) -> ProbabilityHistogram:
        """Start from nothing."""
        return cls(*(np.zeros(PROBABILITY_STEPS + 1, np.int64) for _ in range(2)))

    def add(self, truth: Mask, stored: StoredProbability) -> None:
        """Count a chip in, in place."""
        for target, counts in ((truth == FOREST, self.forest), (truth == 0, self.other)):
            seen = target & (stored != NO_OBSERVATION)
            counts += np.bincount(stored[seen], minlength=PROBABILITY_STEPS + 1)

    def at(self, step: int) -> Counts:
        """Give the counts of the mask ``stored >= step``."""
        tp, fp = int(self.forest[step:].sum()), int(self.other[step:].sum())
        return Counts(tp, fp, int(self.forest.sum()) - tp, int(self.other.sum()) - fp)

    def best_threshold(self) -> float:
        """Threshold of best F1; of several equal ones the one nearest to 0.5."""
        steps = range(1, PROBABILITY_STEPS + 1)
        middle = PROBABILITY_STEPS / 2
        best = max(steps, key=lambda step: (self.at(step).scores()["f1"], -abs(step - middle)))
        return best / PROBABILITY_STEPS


def _ratio(part: int, whole: int, empty: float = 1.0) -> float:
    return part / whole if whole else empty
