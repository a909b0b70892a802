"""Codes of a comparison, their names and colours, and the names of its files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from geoforest.arrays.stitch import mask_from_probability
from geoforest.report.language import message
from geoforest.types import FOREST, NO_OBSERVATION, OTHER, StoredProbability

if TYPE_CHECKING:
    from numpy.typing import NDArray

STABLE_OTHER: Final = 0
STABLE_FOREST: Final = 1
LOSS: Final = 2
GAIN: Final = 3
UNCERTAIN: Final = 4
NAMES: Final = {
    STABLE_OTHER: message("stable other"),
    STABLE_FOREST: message("stable forest"),
    LOSS: message("loss"),
    GAIN: message("gain"),
    UNCERTAIN: message("uncertain"),
    NO_OBSERVATION: message("no observation"),
}
COLOURS: Final = {
    STABLE_OTHER: (228, 213, 183, 255),
    STABLE_FOREST: (27, 120, 55, 255),
    LOSS: (197, 27, 125, 255),
    GAIN: (69, 117, 214, 255),
    UNCERTAIN: (250, 205, 60, 255),
    NO_OBSERVATION: (0, 0, 0, 0),
}
CHANGE_NAME: Final = "forest_change.tif"
POLYGONS_NAME: Final = "forest_change.gpkg"
LAYER: Final = "forest_change"
SUMMARY_NAME: Final = "change.json"
REPORT_NAME: Final = "report.html"


def change_codes(
    earlier: StoredProbability,
    later: StoredProbability,
    *,
    thresholds: tuple[float, float],
    margin: float,
) -> NDArray[np.uint8]:
    """Return the change of each pixel.

    Parameters
    ----------
    earlier, later
        Stored probability, of the same shape.
    thresholds
        Probability at or above which a pixel is forest, for each.
    margin
        A change counts only where both probabilities are at least this far from their thresholds;
        other changes are uncertain.

    Returns
    -------
    numpy.ndarray
        uint8: 0 stable other, 1 stable forest, 2 loss, 3 gain, 4 uncertain, 255 where either was
        not observed.

    Examples
    --------
    >>> change_codes(
    ...     np.array([10, 200, 200, 130, 255], np.uint8), np.array([20, 210, 20, 120, 9], np.uint8),
    ...     thresholds=(0.5, 0.5), margin=0.1,
    ... ).tolist()
    [0, 1, 2, 4, 255]
    """
    was, now = (
        mask_from_probability(stored, threshold)
        for stored, threshold in zip((earlier, later), thresholds, strict=True)
    )
    clear = np.ones(was.shape, np.bool_)
    for stored, threshold, mask in ((earlier, thresholds[0], was), (later, thresholds[1], now)):
        surely = mask_from_probability(stored, min(1.0, threshold + margin)) == FOREST
        surely_not = mask_from_probability(stored, max(0.0, threshold - margin)) == OTHER
        clear &= np.where(mask == FOREST, surely, surely_not)
    codes = np.where(was == FOREST, np.where(now == FOREST, STABLE_FOREST, LOSS), STABLE_OTHER)
    codes[(was == OTHER) & (now == FOREST)] = GAIN
    codes[(was != now) & ~clear] = UNCERTAIN
    codes[(was == NO_OBSERVATION) | (now == NO_OBSERVATION)] = NO_OBSERVATION
    return codes.astype(np.uint8)
