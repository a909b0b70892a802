"""Codes of masks: what was found, and whether lossy compression such as JPEG has changed them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from geoforest.types import FOREST, NO_OBSERVATION, OTHER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geoforest.types import Array, Valid

WANTED: Final = "0 other, 1 forest, 255 unknown were wanted"
_CODES: Final = (OTHER, FOREST, NO_OBSERVATION)
_LOSSY: Final = "as in a mask of 0 and 255 that went through lossy compression such as JPEG"
# Compression moves a value by so much, far from edges, and by more on a fifth of the pixels.
_NEAR: Final = 24
_MOST: Final = 0.8
_SHOWN: Final = 5
# Of a class that is scattered, so few pixels have four neighbours of their class; of a compact
# one, so many.
_SCATTERED: Final = 0.05
_COMPACT: Final = 0.5


@dataclass
class CodeCounts:
    """Codes of the masks of a split, and how compact forest and unknown pixels lie.

    Attributes
    ----------
    pixels
        Pixels by code.
    inner
        Pixels by code, of 1 and 255, whose four neighbours have the same code.
    """

    pixels: Counter[float] = field(default_factory=Counter)
    inner: Counter[float] = field(default_factory=Counter)

    def add(self, values: Array) -> None:
        """Count the pixels of a mask, ``(1, row, col)``."""
        self.pixels.update(_histogram(values))
        for code in (FOREST, NO_OBSERVATION):
            self.inner[code] += int(np.count_nonzero(_inner(values[0] == code)))

    def scattered_forest(self) -> str | None:
        """Say that 1 is scattered and 255 compact, as if 255 were forest; None when it is not."""
        forest, unknown = self.pixels[FOREST], self.pixels[NO_OBSERVATION]
        if not 0 < forest < unknown:
            return None
        if self.inner[FOREST] > _SCATTERED * forest or self.inner[NO_OBSERVATION] < (
            _COMPACT * unknown
        ):
            return None
        return (
            f"255 is compact and 1 lies scattered ({shares(self.pixels)}), {_LOSSY}: true forest "
            f"would be unknown, and artefacts forest; {WANTED}"
        )


def code_fault(values: Array, lossy: str | None) -> str | None:
    """Say why the values of a mask are no codes; None when they are.

    Parameters
    ----------
    values
        ``(band, row, col)``.
    lossy
        Name of the mask file's lossy compression, if it has one.
    """
    counts = _histogram(values)
    if lossy is not None:
        return (
            f"is compressed with {lossy}, which changes codes (found {shares(counts)}); {WANTED}, "
            "in a lossless compression such as DEFLATE"
        )
    strange = counts.keys() - set(_CODES)
    if not strange:
        return None
    if _is_near_two_levels(counts):
        return f"code {min(strange):g} (found {shares(counts)}), {_LOSSY}; {WANTED}"
    return f"code {min(strange)}; {WANTED}"


def shares(counts: Mapping[float, int]) -> str:
    """Describe a histogram: the most frequent values with their shares of the pixels."""
    total = sum(counts.values())
    most = sorted(counts, key=lambda value: -counts[value])[:_SHOWN]
    text = ", ".join(f"{value:g} on {100 * counts[value] / total:.2g} %" for value in most)
    more = len(counts) - len(most)
    return text + (f", and {more} other values" if more else "")


def lossy_compression(tags: Mapping[str, str]) -> str | None:
    """Return the name of a GeoTIFF's lossy compression by its structure tags, or None."""
    name = tags.get("COMPRESSION", "")
    if "JPEG" in name or tags.get("COMPRESSION_REVERSIBILITY") == "LOSSY":
        return name
    if "LERC" in name and float(tags.get("MAX_Z_ERROR", 0)) >= 1:
        return name
    return None


def _histogram(values: Array) -> Counter[float]:
    found, counts = np.unique(values, return_counts=True)
    return Counter(dict(zip(found.tolist(), counts.tolist(), strict=True)))


def _is_near_two_levels(counts: Mapping[float, int]) -> bool:
    """Return whether most values lie near 0 and 255, on both sides, and some beside them."""
    total = sum(counts.values())
    low, high = (
        sum(number for value, number in counts.items() if abs(value - end) <= _NEAR)
        for end in (OTHER, NO_OBSERVATION)
    )
    beside = any(0 < min(abs(value), abs(value - 255)) <= _NEAR for value in counts)
    return beside and min(low, high) > 0 and low + high >= _MOST * total


def _inner(one: Valid) -> Valid:
    """Return where a pixel and its four neighbours are True, within the border."""
    inner: Valid = one[1:-1, 1:-1] & one[:-2, 1:-1] & one[2:, 1:-1] & one[1:-1, :-2] & one[1:-1, 2:]
    return inner
