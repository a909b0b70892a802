"""Judge a predictor on labelled chips."""

from __future__ import annotations

from collections.abc import Sequence

from geoforest.predict import Predictor
from geoforest.stitch import quantise
from geoforest.train.chips import Chip
from geoforest.train.metrics import ProbabilityHistogram


def probability_histogram(
    predictor: Predictor, chips: Sequence[Chip], *, scale: float = 1e-4
) -> ProbabilityHistogram:
    """Predict each chip in one pass and count its stored probabilities.

    Parameters
    ----------
    predictor
        Called with one chip at a time.
    chips
        Of any size that the predictor takes.
    scale
        Reflectance is ``dn * scale``.
    """
    histogram = ProbabilityHistogram.empty()
    for chip in chips:
        probability = predictor(chip.dn[None], scale=scale, valid=chip.valid[None])[0]
        histogram.add(chip.mask, quantise(probability, chip.valid))
    return histogram
