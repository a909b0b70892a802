"""Probabilities to stored bytes, and stored bytes to a mask. Arrays only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from geoforest.errors import GeoforestError
from geoforest.types import (
    FOREST,
    NO_OBSERVATION,
    OTHER,
    PROBABILITY_STEPS,
    Mask,
    StoredProbability,
    Valid,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


def quantise(probability: NDArray[np.floating], observed: Valid) -> StoredProbability:
    """Store probabilities as uint8 ``round(p * 250)``, 255 where nobody saw.

    Parameters
    ----------
    probability
        Any shape, 0 to 1. Ignored where not observed.
    observed
        Same shape, True where the pixel was seen.

    Raises
    ------
    GeoforestError
        When an observed probability is not a number: it must never pass for "no forest".

    Examples
    --------
    >>> quantise(np.array([0.0, 0.5, 1.0, 0.3]), np.array([True, True, True, False])).tolist()
    [0, 125, 250, 255]
    """
    stored = np.where(
        observed, np.rint(probability * np.float32(PROBABILITY_STEPS)), NO_OBSERVATION
    )
    if np.isnan(stored).any():
        raise GeoforestError("the model gave a probability that is no number: its weights are bad")
    return stored.astype(np.uint8)


def threshold_step(threshold: float) -> int:
    """Smallest stored value that is at or above a threshold of 0 to 1.

    Examples
    --------
    >>> threshold_step(0.35), threshold_step(0.5), threshold_step(0.004 * 3)
    (88, 125, 3)
    """
    # The rounding forgives the last bits of a threshold written in decimals.
    return math.ceil(round(threshold * PROBABILITY_STEPS, 6))


def mask_from_probability(stored: StoredProbability, threshold: float) -> Mask:
    """Mask codes: forest where the stored probability is at or above the threshold.

    Examples
    --------
    >>> mask_from_probability(np.array([0, 124, 125, 250, 255], np.uint8), 0.5).tolist()
    [0, 0, 1, 1, 255]
    """
    # A table look-up of 256 entries is the same rule for every caller, and fast.
    table = np.full(256, OTHER, np.uint8)
    table[threshold_step(threshold) :] = FOREST
    table[PROBABILITY_STEPS + 1 :] = NO_OBSERVATION
    return table[stored]


def paste_core(
    target: StoredProbability,
    probability: NDArray[np.floating],
    observed: Valid,
    *,
    row: int,
    col: int,
    halo: int,
) -> None:
    """Quantise the core of one window and paste it into ``target`` in place.

    Parameters
    ----------
    target
        ``(row, col)``, written from ``[row, col]`` on; the core is cut at its far edges.
    probability
        ``(window, window)``, 0 to 1, halo included.
    observed
        Same shape as ``target``.
    row, col
        Place of the core's first pixel in ``target``.
    halo
        Ring of ``probability`` that is not kept, in pixels.
    """
    core = probability.shape[0] - 2 * halo
    height = min(core, target.shape[0] - row)
    width = min(core, target.shape[1] - col)
    kept = probability[halo : halo + height, halo : halo + width]
    place = (slice(row, row + height), slice(col, col + width))
    target[place] = quantise(kept, observed[place])
