"""Probabilities stored as bytes, masks from them, and the paste of cores."""

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
    """Convert probabilities to uint8 ``round(p * 250)``; 255 where not observed.

    Parameters
    ----------
    probability
        Any shape, 0 to 1; ignored where not observed.
    observed
        Same shape, True where observed.

    Raises
    ------
    GeoforestError
        When an observed probability is NaN, which must never become "no forest".

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
    """Return the smallest stored value at or above a threshold of 0 to 1.

    Examples
    --------
    >>> threshold_step(0.35), threshold_step(0.5), threshold_step(0.004 * 3)
    (88, 125, 3)
    """
    # A threshold written in decimals may be off in its last bits.
    return math.ceil(round(threshold * PROBABILITY_STEPS, 6))


def mask_from_probability(stored: StoredProbability, threshold: float) -> Mask:
    """Convert a stored probability to mask codes: forest at or above the threshold.

    Examples
    --------
    >>> mask_from_probability(np.array([0, 124, 125, 250, 255], np.uint8), 0.5).tolist()
    [0, 0, 1, 1, 255]
    """
    # A look-up in a table of 256 entries is fast.
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
        ``(row, col)``; the core is clipped at its bottom and right edges.
    probability
        ``(window, window)``, 0 to 1, halo included.
    observed
        Same shape as ``target``.
    row, col
        Position of the core's first pixel in ``target``.
    halo
        Width of the ring of ``probability`` that is dropped, in pixels.
    """
    core = probability.shape[0] - 2 * halo
    height = min(core, target.shape[0] - row)
    width = min(core, target.shape[1] - col)
    kept = probability[halo : halo + height, halo : halo + width]
    place = (slice(row, row + height), slice(col, col + width))
    target[place] = quantise(kept, observed[place])
