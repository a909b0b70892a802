"""Synthetic check chips, and the share of their pixels on which two runtimes agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.ndimage import gaussian_filter

from geoforest.arrays.stitch import mask_from_probability, quantise
from geoforest.scenes.synthetic import BANDS, make_chips
from geoforest.types import NO_OBSERVATION, Mask, Valid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from geoforest.arrays.predict import Predictor
    from geoforest.models.bundle import ModelCard

CHECK_SEED: Final = 1709
CALIBRATION_SEED: Final = 4241
_CHECK_PX = 8 * 512 * 512
_MAX_CHIPS = 8
# Larger windows are filled by mirroring: drawing takes longer than predicting.
_MAX_DRAWN_PX = 512
# Red edge and near infrared see vegetation bright, all other bands see it dark.
_BRIGHT_OVER_VEGETATION = {"B05", "B06", "B07", "B08", "B8A", "B09"}
# How much scenes differ, in standard deviations of the training data: sun, haze and season shift
# all visible bands together, and all infrared bands together.
_SEASON_SHIFT = 0.7
_SEASON_CONTRAST = (0.8, 1.2)
_HOLE_SHARE = 0.06


@dataclass(frozen=True, eq=False)
class Chips:
    """Synthetic windows for one model.

    Attributes
    ----------
    dn
        float32 ``(n, band, row, col)`` in the model's band order, 0 where not valid.
    valid
        bool ``(n, row, col)``, with holes.
    scale
        Reflectance is ``dn * scale``.
    """

    dn: NDArray[np.float32]
    valid: Valid
    scale: float

    def __len__(self) -> int:
        return len(self.dn)

    def batches(self, size: int) -> Iterator[slice]:
        """Yield the slice of each batch of ``size`` chips; the last one may be shorter."""
        for start in range(0, len(self), size):
            yield slice(start, start + size)


def make_model_chips(card: ModelCard, window: int, *, seed: int) -> Chips:
    """Build synthetic chips that look to a model like its own training data.

    Land cover and texture are those of :mod:`geoforest.scenes.synthetic`. Each band gets the mean
    and standard deviation of the training data, and each chip its own sun, haze and season, so
    that probabilities lie as close to the threshold as on real scenes.

    Parameters
    ----------
    card
        The model's card.
    window
        Rows and columns, px. Up to 512 px there are eight chips, above that fewer.
    seed
        Seed of all random numbers.
    """
    rng = np.random.default_rng(seed)
    n_chips = int(np.clip(_CHECK_PX // window**2, 1, _MAX_CHIPS))
    side = min(window, _MAX_DRAWN_PX)
    drawn, _ = make_chips(seed, n_chips, side)
    images = drawn.astype(np.float32)
    images -= images.mean(axis=(0, 2, 3), keepdims=True)
    images /= images.std(axis=(0, 2, 3), keepdims=True)
    images *= rng.uniform(*_SEASON_CONTRAST, (n_chips, 1, 1, 1)).astype(np.float32)
    shift = rng.uniform(-_SEASON_SHIFT, _SEASON_SHIFT, (n_chips, 2)).astype(np.float32)
    images[:, :3] += shift[:, :1, None, None]
    images[:, 3:] += shift[:, 1:, None, None]
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (card.mean, card.std))
    dn = np.maximum(images[:, [_drawn_band(band) for band in card.bands]] * std + mean, 0)
    valid = np.stack([~_holes(rng, side) for _ in range(n_chips)])
    dn *= valid[:, None]
    beyond = (0, window - side)
    return Chips(
        dn=np.pad(dn, ((0, 0), (0, 0), beyond, beyond), mode="symmetric"),
        valid=np.pad(valid, ((0, 0), beyond, beyond), mode="symmetric"),
        scale=card.reflectance_scale,
    )


def predicted_masks(
    predictor: Predictor, chips: Chips, threshold: float, batch_size: int = 1
) -> Mask:
    """Return each chip's mask as a job stores it, uint8 ``(n, row, col)``, 255 in holes."""
    masks = np.empty(chips.valid.shape, np.uint8)
    for part in chips.batches(batch_size):
        n = len(chips.valid[part])
        # The job's own batch shape: another one may change the last bits.
        full = np.resize(np.arange(n), batch_size)
        probability = predictor(
            chips.dn[part][full], scale=chips.scale, valid=chips.valid[part][full]
        )
        stored = quantise(probability[:n], chips.valid[part])
        masks[part] = mask_from_probability(stored, threshold)
    return masks


def same_share(masks: Mask, others: Mask) -> float:
    """Return the share of observed pixels, 0 to 1, that have the same code in both masks.

    Examples
    --------
    >>> same_share(np.array([0, 1, 1, 255], np.uint8), np.array([0, 1, 0, 255], np.uint8))
    0.6666666666666666
    """
    observed = masks != NO_OBSERVATION
    return float((masks == others)[observed].mean())


def agreement(reference: Predictor, candidate: Predictor, chips: Chips, threshold: float) -> float:
    """Return the share of observed pixels, 0 to 1, whose mask is the same from both predictors."""
    return same_share(
        predicted_masks(reference, chips, threshold), predicted_masks(candidate, chips, threshold)
    )


def _drawn_band(band: str) -> int:
    if band in BANDS:
        return BANDS.index(band)
    return BANDS.index("B08" if band in _BRIGHT_OVER_VEGETATION else "B04")


def _holes(rng: np.random.Generator, side: int) -> Valid:
    """Draw blobs without observation: bool ``(side, side)``, True inside."""
    field = gaussian_filter(rng.normal(size=(side, side)), 8, mode="wrap")
    return np.asarray(field > np.quantile(field, 1 - _HOLE_SHARE))
