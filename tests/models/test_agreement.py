from __future__ import annotations

import numpy as np
import pytest

from geoforest.models.agreement import (
    CALIBRATION_SEED,
    CHECK_SEED,
    agreement,
    make_model_chips,
    predicted_masks,
    same_share,
)
from geoforest.types import FOREST, NO_OBSERVATION
from tests.helpers import synthetic


class Shift:
    """Probability from the first band; ``by`` is added."""

    def __init__(self, by: float = 0.0) -> None:
        self.by = by
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, dn, scale=1e-4, offset=0.0, valid=None):
        self.shapes.append(dn.shape)
        return np.clip(dn[:, 0] * np.float32(scale) * 4 + self.by, 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def chips():
    return make_model_chips(synthetic.card(), 64, seed=CHECK_SEED)


def test_chips_look_like_the_training_data_and_have_holes(chips):
    card = synthetic.card()
    assert chips.dn.shape == (8, 4, 64, 64)
    assert chips.dn.dtype == np.float32
    assert 0.85 < chips.valid.mean() < 0.99
    assert not (chips.dn * ~chips.valid[:, None]).any()
    seen = chips.dn.transpose(1, 0, 2, 3)[:, chips.valid]
    shift = (seen.mean(axis=1) - card.mean) / card.std
    assert np.abs(shift).max() < 0.7
    assert ((seen.std(axis=1) / card.std > 0.6) & (seen.std(axis=1) / card.std < 1.5)).all()


def test_a_seed_decides_everything(chips):
    again = make_model_chips(synthetic.card(), 64, seed=CHECK_SEED)
    np.testing.assert_array_equal(chips.dn, again.dn)
    np.testing.assert_array_equal(chips.valid, again.valid)
    others = make_model_chips(synthetic.card(), 64, seed=CALIBRATION_SEED)
    assert (chips.dn != others.dn).mean() > 0.5


def test_any_bands_and_unit():
    card = synthetic.card(
        in_channels=3,
        bands=("B8A", "B11", "B04"),
        mean=(0.3, 0.2, 0.06),
        std=(0.05, 0.04, 0.03),
        reflectance_scale=1.0,
    )
    chips = make_model_chips(card, 64, seed=CHECK_SEED)
    assert chips.scale == 1.0
    nir, swir, red = chips.dn.transpose(1, 0, 2, 3)[:, chips.valid]
    assert nir.mean() == pytest.approx(0.3, abs=0.05)
    # Visible and short-wave infrared are drawn alike, near infrared against them.
    assert np.corrcoef(swir, red)[0, 1] > 0.99
    assert np.corrcoef(nir, red)[0, 1] < 0.5


def test_large_windows_are_few_and_quickly_made():
    chips = make_model_chips(synthetic.card(), 1024, seed=CHECK_SEED)
    assert chips.dn.shape == (2, 4, 1024, 1024)
    np.testing.assert_array_equal(chips.dn[:, :, :, 511], chips.dn[:, :, :, 512])


def test_agreement_is_the_share_of_observed_pixels(chips):
    exact, shifted = Shift(), Shift(0.05)
    assert agreement(exact, exact, chips, 0.5) == 1
    masks = predicted_masks(exact, chips, 0.3)
    assert ((masks == NO_OBSERVATION) == ~chips.valid).all()
    flipped = (masks != predicted_masks(shifted, chips, 0.3))[chips.valid].mean()
    assert 0 < flipped < 1
    assert agreement(exact, shifted, chips, 0.3) == pytest.approx(1 - flipped)


def test_holes_do_not_count(chips):
    masks = predicted_masks(Shift(), chips, 0.3)
    others = np.where(masks == NO_OBSERVATION, FOREST, masks)
    assert same_share(masks, others) == 1


@pytest.mark.parametrize("batch_size", [1, 3, 8, 20])
def test_every_call_has_the_batch_shape_of_the_job(chips, batch_size):
    predictor = Shift()
    masks = predicted_masks(predictor, chips, 0.3, batch_size)
    assert {shape[0] for shape in predictor.shapes} == {batch_size}
    np.testing.assert_array_equal(masks, predicted_masks(Shift(), chips, 0.3))
