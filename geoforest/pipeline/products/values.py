"""What the values of a scene's pixels tell: figures and sentences for the summary of a map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from geoforest.arrays.validity import HIGHEST_REFLECTANCE, LOWEST_REFLECTANCE, commonest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geoforest.arrays.validity import ValueCounts, ValueRules

# Fewer pixels of one value in all bands may be chance.
_STRIPE_PX: Final = 16
# An offset of -1000 wraps values of 1 to 1000 below zero to these.
_WRAPPED: Final = range(64_000, 65_536)


def value_figures(counts: ValueCounts, rules: ValueRules) -> dict[str, Any]:
    """Return the counts as plain JSON.

    Returns
    -------
    dict
        Unobserved pixels: ``beyond``, with a value that no surface has, in any band;
        ``beyond_by_band`` and ``beyond_value``, the commonest one; ``saturated``; ``swath_edge``,
        that are not 0 in all bands. Observed pixels: ``zero_in_a_band``, where 0 marks missing
        pixels; ``zero_in_all_bands``, of fractions without a nodata value;
        ``one_value_beside_missing``, and ``one_value``, the commonest one.
    """
    by_band = counts.beyond_by_band or [0] * len(rules.bands)
    return {
        "beyond": counts.beyond,
        "beyond_by_band": dict(zip(rules.bands, by_band, strict=True)),
        "beyond_value": _number(commonest(counts.beyond_values)),
        "saturated": counts.saturated,
        "swath_edge": counts.edge,
        "zero_in_a_band": counts.dark,
        "zero_in_all_bands": counts.blank,
        "one_value_beside_missing": counts.stripe,
        "one_value": _number(commonest(counts.stripe_values)),
    }


def value_warnings(
    counts: ValueCounts, rules: ValueRules, dtype: str, inside_px: int
) -> Iterator[str]:
    """Yield sentences about values that no surface has."""
    if counts.blank:
        yield (
            f"{_pixels(counts.blank, inside_px)} are 0 in all bands, which ground hardly is, and "
            "count as observed, because the file states no nodata value; if 0 marks missing "
            "pixels, --nodata 0 says so"
        )
    value = commonest(counts.beyond_values)
    if value is None:
        return
    bands = zip(rules.bands, counts.beyond_by_band, strict=True)
    where = ", ".join(f"{band} {number:,}" for band, number in bands if number)
    yield (
        f"{_pixels(counts.beyond, inside_px)} hold values that no surface has: reflectance below "
        f"{LOWEST_REFLECTANCE:g} or above {HIGHEST_REFLECTANCE:g} ({where}; most often the stored "
        f"value {value}); they count as not observed. {_remedy(value, rules, dtype)}"
        f"{_unit(counts.beyond, inside_px)}"
    )


def value_notes(counts: ValueCounts) -> Iterator[str]:
    """Yield sentences about pixels at edges, in the dark, of saturated detectors, in stripes."""
    if counts.saturated:
        yield (
            f"{counts.saturated:,} pixels are saturated, by the value that the product's metadata "
            "name; they count as not observed"
        )
    if counts.edge:
        yield (
            f"{counts.edge:,} pixels at edges of the data count as not observed, though not all of "
            "their bands are 0"
        )
    if counts.dark:
        yield (
            f"{counts.dark:,} pixels count as observed, though a band of theirs is 0, the nodata "
            "value: dark ground, such as water, forest or shadow"
        )
    value = commonest(counts.stripe_values)
    if value is None or max(_STRIPE_PX, counts.stripe / 2) > counts.stripe_values[value]:
        return
    yield (
        f"{counts.stripe:,} pixels beside missing ones have the same value in all bands, most "
        f"often {value}, and count as observed; if it is a fill value, and no ground, give them "
        "the nodata value in the file"
    )


def _remedy(value: str, rules: ValueRules, dtype: str) -> str:
    number = float(value)
    if dtype == "uint16" and number in _WRAPPED and number != _WRAPPED[-1]:
        return (
            "Such values come about when an offset is subtracted from dark pixels of unsigned "
            "numbers; a file without that fault is the remedy, --nodata is none"
        )
    own = sorted({f"{one:g}" for one in rules.nodata if one is not None})
    if not own:
        return f"If that value marks missing pixels, --nodata {value} says so"
    return (
        f"--nodata {value} would say that it marks missing pixels, in place of the file's own "
        f"{', '.join(own)}"
    )


def _unit(beyond: int, inside_px: int) -> str:
    if 2 * beyond <= inside_px:
        return ""
    return "; so many of them may mean that --scale or --offset is another"


def _pixels(number: int, of: int) -> str:
    share = 100 * number / max(of, 1)
    return (
        f"{number:,} pixels ({share:.2g} %)" if share < 10 else f"{number:,} pixels ({share:.0f} %)"
    )


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)
