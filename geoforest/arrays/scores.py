"""Scores of the forest class: counted over all chips first, then divided once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

import numpy as np

from geoforest.types import (
    FOREST,
    NO_OBSERVATION,
    OTHER,
    PROBABILITY_STEPS,
    Mask,
    StoredProbability,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

DEFINITION = (
    "forest is the positive class; pixels of code 255 are left out; a ratio without a denominator "
    "is 1 when there was nothing to find and nothing was found, else 0. Plain names are pooled: "
    "counts are added up over the chips of the split, then divided once. per_image_ is the mean "
    "over labelled chips of each chip's own score. weighted_ is the mean over the classes forest "
    "and other, each taken as positive in its turn, weighted by its pixels in truth. mean_iou is "
    "the plain mean of the IoU of both classes, pooled. ece is the expected calibration error"
)


@dataclass(frozen=True)
class Counts:
    """Numbers of pixels by truth and prediction; forest is positive.

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
        """Compare two masks of the same shape; pixels that are 255 in either are left out."""
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

    @property
    def support(self) -> int:
        """Forest pixels in truth."""
        return self.tp + self.fn

    @property
    def pixels(self) -> int:
        """Number of counted pixels."""
        return self.tp + self.fp + self.fn + self.tn

    def of_other(self) -> Counts:
        """Return the counts with the class other as the positive class."""
        return Counts(tp=self.tn, fp=self.fn, fn=self.fp, tn=self.tp)

    def scores(self) -> dict[str, float]:
        """Compute F1, IoU, precision, recall and accuracy; see :data:`DEFINITION`."""
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
    """Pixels of each stored probability, counted separately for forest and other in truth.

    It gives the exact counts of the mask at any threshold.

    Attributes
    ----------
    forest, other
        int64 ``(251,)``: pixels of each stored value, by their class in truth.
    """

    forest: NDArray[np.int64]
    other: NDArray[np.int64]

    def __add__(self, other: ProbabilityHistogram) -> ProbabilityHistogram:
        return ProbabilityHistogram(self.forest + other.forest, self.other + other.other)

    @classmethod
    def empty(cls) -> ProbabilityHistogram:
        """Return a histogram without pixels."""
        return cls(*(np.zeros(PROBABILITY_STEPS + 1, np.int64) for _ in range(2)))

    def add(self, truth: Mask, stored: StoredProbability) -> None:
        """Add the pixels of a chip, in place."""
        for code, pixels in ((FOREST, self.forest), (OTHER, self.other)):
            seen = (truth == code) & (stored != NO_OBSERVATION)
            pixels[:] += np.bincount(stored[seen], minlength=PROBABILITY_STEPS + 1)

    def at(self, step: int) -> Counts:
        """Return the counts of the mask ``stored >= step``."""
        tp, fp = int(self.forest[step:].sum()), int(self.other[step:].sum())
        return Counts(tp, fp, int(self.forest.sum()) - tp, int(self.other.sum()) - fp)

    def best_threshold(self) -> float:
        """Find the threshold of best F1; of equal ones, the nearest to 0.5."""
        steps = range(1, PROBABILITY_STEPS + 1)
        middle = PROBABILITY_STEPS / 2
        best = max(steps, key=lambda step: (self.at(step).scores()["f1"], -abs(step - middle)))
        return best / PROBABILITY_STEPS


def pooled(chips: Sequence[Counts]) -> dict[str, float]:
    """Compute the scores of the summed counts, and ``mean_iou``, the mean over both classes."""
    total = reduce(add, chips, Counts())
    ious = [counts.scores()["iou"] for counts in (total, total.of_other())]
    return {**total.scores(), "mean_iou": sum(ious) / 2}


def per_image(chips: Sequence[Counts]) -> dict[str, float]:
    """Average the scores of single chips; chips without a labelled pixel are left out.

    Examples
    --------
    >>> chips = [Counts(tp=1, fp=1), Counts(tn=2)]
    >>> per_image(chips)["precision"], pooled(chips)["precision"]
    (0.75, 0.5)
    """
    return _mean([counts.scores() for counts in chips], [float(c.pixels > 0) for c in chips])


def support_weighted(chips: Sequence[Counts]) -> dict[str, float]:
    """Average the pooled scores of both classes, weighted by their pixels in truth.

    Same as ``average="weighted"`` of scikit-learn, and as reported by John and Zhang (2022).
    """
    total = reduce(add, chips, Counts())
    classes = (total, total.of_other())
    return _mean([counts.scores() for counts in classes], [counts.support for counts in classes])


def _mean(scores: Sequence[dict[str, float]], weights: Iterable[float]) -> dict[str, float]:
    shares = np.asarray(list(weights), np.float64)
    if not shares.sum():
        return Counts().scores()
    return {
        name: float(np.average([score[name] for score in scores], weights=shares))
        for name in scores[0]
    }


def _ratio(part: int, whole: int, empty: float = 1.0) -> float:
    return part / whole if whole else empty
