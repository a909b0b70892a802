"""Calibration of probabilities: reliability, calibration error, temperature. Arrays only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit

from geoforest.arrays.scores import ProbabilityHistogram
from geoforest.types import FOREST, OTHER, PROBABILITY_STEPS, Mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

_N_BINS = 10
# Beyond this logit, float32 probabilities are 0 or 1.
_MAX_LOGIT = 20.0
_LOGIT_BINS = 4000


@dataclass(frozen=True)
class ReliabilityBin:
    """Pixels whose probability lies from ``low`` to ``high``, and the share of forest among them.

    All but ``pixels``, a count, lie from 0 to 1.
    """

    low: float
    high: float
    pixels: int
    mean_probability: float
    forest_share: float


def reliability(histogram: ProbabilityHistogram) -> list[ReliabilityBin]:
    """Return ten bins of probability of equal width, without those that hold no pixel."""
    steps = np.arange(PROBABILITY_STEPS + 1)
    forest, pixels = histogram.forest, histogram.forest + histogram.other
    which = np.minimum(steps * _N_BINS // PROBABILITY_STEPS, _N_BINS - 1)
    bins = []
    for number in range(_N_BINS):
        inside = which == number
        if not (count := int(pixels[inside].sum())):
            continue
        bins.append(
            ReliabilityBin(
                low=number / _N_BINS,
                high=(number + 1) / _N_BINS,
                pixels=count,
                mean_probability=float((steps * pixels)[inside].sum() / count / PROBABILITY_STEPS),
                forest_share=float(forest[inside].sum() / count),
            )
        )
    return bins


def expected_calibration_error(bins: list[ReliabilityBin]) -> float:
    """Return the mean over pixels of the gap between probability and forest share of their bin.

    Guo et al. 2017, On Calibration of Modern Neural Networks, equation 3, for the forest class.

    Examples
    --------
    >>> bins = [ReliabilityBin(0.0, 0.1, 30, 0.05, 0.1), ReliabilityBin(0.9, 1.0, 10, 1.0, 0.8)]
    >>> round(expected_calibration_error(bins), 4)
    0.0875
    """
    total = sum(one.pixels for one in bins)
    gaps = sum(one.pixels * abs(one.mean_probability - one.forest_share) for one in bins)
    return gaps / total if total else 0.0


@dataclass(frozen=True, eq=False)
class LogitHistogram:
    """Counts of pixels by logit and true class, from which a temperature is fitted.

    Attributes
    ----------
    forest, other
        Pixels per bin, int64 ``(4000,)``, for logits from -20 to 20.
    """

    forest: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_LOGIT_BINS, np.int64))
    other: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_LOGIT_BINS, np.int64))

    def add(self, truth: Mask, probability: NDArray[np.floating]) -> None:
        """Add the pixels of a chip, in place; those of mask code 255 are left out."""
        with np.errstate(divide="ignore"):
            p = probability.astype(np.float64)
            logit = np.clip(np.log(p) - np.log1p(-p), -_MAX_LOGIT, _MAX_LOGIT)
        place = ((logit + _MAX_LOGIT) * (_LOGIT_BINS / (2 * _MAX_LOGIT))).astype(np.intp)
        place = np.minimum(place, _LOGIT_BINS - 1)
        for code, counts in ((FOREST, self.forest), (OTHER, self.other)):
            np.add(counts, np.bincount(place[truth == code], minlength=_LOGIT_BINS), out=counts)

    def at(self, temperature: float) -> ProbabilityHistogram:
        """Return the histogram of stored probability at a temperature."""
        stored = np.rint(expit(_logits() / temperature) * PROBABILITY_STEPS).astype(np.intp)
        minlength = PROBABILITY_STEPS + 1
        return ProbabilityHistogram(
            *(
                np.bincount(stored, weights=counts, minlength=minlength).astype(np.int64)
                for counts in (self.forest, self.other)
            )
        )

    def negative_log_likelihood(self, temperature: float) -> float:
        """Return the mean cross-entropy per pixel at a temperature."""
        scaled = _logits() / temperature
        total = self.forest @ np.logaddexp(0, -scaled) + self.other @ np.logaddexp(0, scaled)
        return float(total / max(int(self.forest.sum() + self.other.sum()), 1))


def fit_temperature(histogram: LogitHistogram) -> float:
    """Estimate the temperature by which to divide logits; 1 when none helps.

    It minimises the cross-entropy (Guo et al. 2017, section 4.2), and is kept only when the
    expected calibration error falls as well.
    """
    if not (histogram.forest.any() and histogram.other.any()):
        return 1.0
    found = minimize_scalar(
        lambda exponent: histogram.negative_log_likelihood(float(np.exp(exponent))),
        bounds=(np.log(0.1), np.log(10.0)),
        method="bounded",
    )
    temperature = round(float(np.exp(found.x)), 4)
    before, after = (
        expected_calibration_error(reliability(histogram.at(t))) for t in (1.0, temperature)
    )
    return temperature if after < before else 1.0


def _logits() -> NDArray[np.float64]:
    """Return the logit at the middle of each bin."""
    edges = np.linspace(-_MAX_LOGIT, _MAX_LOGIT, _LOGIT_BINS + 1)
    return (edges[:-1] + edges[1:]) / 2
