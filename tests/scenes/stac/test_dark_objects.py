"""The offset, settled by pixels: what shows it, what does not, and who is believed then."""

from __future__ import annotations

import numpy as np
import pytest

from geoforest.scenes.stac.dark_objects import (
    DarkObjects,
    dark_objects,
    settle_offset,
)
from tests.helpers.synthetic import digital_numbers

APPLIED = DarkObjects(darkest_red=150, vegetated_percent=50)
NOT_APPLIED = DarkObjects(darkest_red=1150, vegetated_percent=50)
DESERT = DarkObjects(darkest_red=1400, vegetated_percent=0)
HAZE = DarkObjects(darkest_red=700, vegetated_percent=50)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("applied", [True, False])
def test_forest_shows_it(seed, applied):
    dn = digital_numbers((300, 300), seed=seed).astype("uint16") + (0 if applied else 1000)
    dn[:, :100] = 0
    seen = dark_objects(dn[0], dn[3], nodata=0)
    assert seen.offset_applied is applied
    # What no offset changes: the vegetated share.
    assert seen.vegetated_percent == pytest.approx(50, abs=5)


def test_what_does_not_show_it():
    rng = np.random.default_rng(0)
    red = rng.normal(2500, 300, (100, 100)).astype("uint16")
    # Bare soil and clouds look alike with the offset and without.
    assert dark_objects(red, red + 500, nodata=0).offset_applied is None
    assert DESERT.offset_applied is HAZE.offset_applied is None
    # Nothing observed, or the two bands on two grids.
    assert dark_objects(red * 0, red * 0, nodata=0) is None
    assert dark_objects(red, red[:50], nodata=0) is None


def test_water_alone_shows_that_it_was_applied():
    water = np.full((50, 50), 200, "uint16")
    assert dark_objects(water, water - 100, nodata=0).offset_applied is True


@pytest.mark.parametrize(
    ("stated", "flag", "baseline", "seen", "offset", "told"),
    [
        # All agree.
        (-0.1, False, "05.09", NOT_APPLIED, -0.1, None),
        (-0.1, None, "05.09", NOT_APPLIED, -0.1, None),
        (0.0, True, "05.09", APPLIED, 0.0, None),
        (0.0, False, "02.14", APPLIED, 0.0, None),
        (None, None, "02.14", APPLIED, 0.0, None),
        # Two statements that contradict each other.
        (-0.1, True, "05.09", APPLIED, 0.0, "-0.1 and that it has been applied, the pixels show"),
        (-0.1, True, "05.09", NOT_APPLIED, -0.1, "show that it has not been applied"),
        (-0.1, True, "05.09", DESERT, 0.0, "the pixels do not tell"),
        # Statements against the pixels.
        (-0.1, False, "05.09", APPLIED, 0.0, "show that it has been applied"),
        (0.0, None, "05.09", NOT_APPLIED, -0.1, "show that it has not been applied"),
        # No statement.
        (None, None, "05.09", NOT_APPLIED, -0.1, "states no offset, the pixels show"),
        (None, None, None, None, 0.0, "states no offset, the pixels do not tell: offset 0"),
        # The metadata, where the pixels do not tell.
        (-0.1, None, "05.09", DESERT, -0.1, None),
        (-0.1, None, "05.09", None, -0.1, None),
        # Before 04.00 there was no offset that haze could hide.
        (0.0, False, "03.01", NOT_APPLIED, 0.0, None),
    ],
)
def test_who_is_believed(stated, flag, baseline, seen, offset, told):
    settled = settle_offset(stated, flag, baseline, seen)
    assert settled.offset == offset
    assert settled.facts["darkest_red_dn"] == (seen.darkest_red if seen else None)
    if told is None:
        assert settled.note is None
    else:
        assert told in settled.note
        assert seen is None or f"DN {seen.darkest_red:.0f}" in settled.note
