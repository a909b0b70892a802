"""Which pixels were observed: nodata, edges of the swath, and values that no surface has.

A pixel is judged by its stored values, before scale and offset, and by the pixels around it.

**Values no surface has.** A reflectance below -0.2 or above 2.5 is unobserved, in whichever band.
The numbers of saturated detectors (65535), fill values of exporters (-9999, 2147483647) and dark
pixels whose offset wrapped below zero (64000 to 65535) are all far beyond. Real values are not: the
brightest of 20.6 million labelled pixels of 314 Sentinel-2 tiles is 2.43, metal or cloud; the
darkest that an offset of -0.1 or, for Landsat, -0.2 leaves is that offset itself.

**Where 0 marks missing pixels.** Dark water and forest in shadow have 0 in a band, too, and the
edge of a swath has more than zeros: JPEG 2000 leaves noise of a few digital numbers there, and the
footprints of the bands end some pixels apart. So, for values that no offset is still to be added
to, a pixel is unobserved if

- all its bands are from 0 to 0.001 (in bytes, which are no reflectance: 0), as negative values of
  signed numbers are dark water, over-corrected;
- or a visible band is 0 and another one at least 0.05, if 0 is the stated nodata value;
- or near infrared is 0 and a visible band at least 0.15, likewise;
- or any band is 0, within 16 px of a square of 3 x 3 px of missing pixels.

In those labelled tiles this loses 94 pixels, 11 of them forest, where "0 in any band" loses 38,126,
29,798 of them forest. In four products with a scene classification it loses 6 clear pixels (before,
342) and takes none of 107,009 missing ones for ground (before, 22; 3,286 with "0 in all bands").
Where an offset is still to be added, ground is far above 0, and 0 in any band is unobserved.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoforest.types import Array, Valid

# The version of the rules, for fingerprints: with another one, pixels of a map may differ.
RULES: Final = 2

LOWEST_REFLECTANCE: Final = -0.2
HIGHEST_REFLECTANCE: Final = 2.5
"""Values beyond these are unobserved; see the top of this module."""

OBSERVED: Final = 0
DARK: Final = 1
"""Observed, though a band is 0 where 0 marks missing pixels: deep water or shadow."""
STRIPE: Final = 2
"""Observed, with one value in all bands beside missing pixels: perhaps another fill value."""
BLANK: Final = 3
"""Observed, though 0 in all bands: fractions, of which nothing says what marks missing pixels."""
MISSING: Final = 4
"""Masked, nodata or no number; or 0 to 0.001 in all bands, where 0 marks missing pixels."""
EDGE: Final = 5
"""Unobserved, though not all bands are 0: the edge of a swath, where 0 marks missing pixels."""
BEYOND: Final = 6
"""Unobserved: a value that no surface has."""
SATURATED: Final = 7
"""Unobserved: the product's own value for saturated detectors."""

REACH_PX: Final = 17
"""A pixel's code depends on no pixel farther away than this, in rows or columns."""

_NEAR_PX: Final = 16
_CORE_PX: Final = 3
_NO_GROUND: Final = 0.001
_BRIGHT_BESIDE_VISIBLE: Final = 0.05
_BRIGHT_BESIDE_INFRARED: Final = 0.15
_VISIBLE: Final = frozenset({"B02", "B03", "B04"})
_INFRARED: Final = frozenset({"B08", "B8A"})
# Decimal scales are no binary fractions: 0.001 / 0.0001 may be a little less than 10.
_ROUNDING: Final = 1e-6
# Strips stay in the processor's cache.
_STRIP_ROWS: Final = 64
_KEPT_VALUES: Final = 32


@dataclass(frozen=True)
class ValueRules:
    """What is needed to judge the stored values of a scene or chip; one entry per band.

    Attributes
    ----------
    bands
        Sentinel-2 names.
    nodata
        Stored value that marks missing pixels, or None.
    scale, offset
        Reflectance is ``dn * scale + offset``.
    zero_is_nodata
        Take 0 for a nodata value of all bands: for integers without any nodata value or mask.
    saturated
        Stored value of saturated detectors, from the product's metadata, or None.
    was_integer
        Whether floating-point values hold whole digital numbers.
    """

    bands: tuple[str, ...]
    nodata: tuple[float | None, ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    zero_is_nodata: bool = False
    saturated: float | None = None
    was_integer: bool = False

    @property
    def zero_marks(self) -> bool:
        """Whether 0 marks missing pixels in every band."""
        return self.zero_is_nodata or all(value == 0 for value in self.nodata)

    @property
    def offset_to_come(self) -> bool:
        """Whether an offset is still to be added to the stored values."""
        return any(self.offset)

    def limits(self, dtype: np.dtype[Any]) -> list[tuple[float, float]]:
        """Return per band the lowest and highest stored value that a surface can have."""
        reach = (LOWEST_REFLECTANCE, HIGHEST_REFLECTANCE)
        factors = zip(self.scale, self.offset, strict=True)
        return [_stored(reach, scale, offset, dtype) for scale, offset in factors]

    def at_most(self, reflectance: float, dtype: np.dtype[Any]) -> list[float]:
        """Return per band the highest stored value up to a reflectance, without an offset."""
        return [_stored((0.0, reflectance), scale, 0.0, dtype)[1] for scale in self.scale]

    def at_least(self, reflectance: float, dtype: np.dtype[Any]) -> list[float]:
        """Return per band the lowest stored value from a reflectance on, without an offset."""
        return [_stored((reflectance, 1.0), scale, 0.0, dtype)[0] for scale in self.scale]


def observed(dn: Array, rules: ValueRules, hidden: Valid | None = None) -> Valid:
    """Find the pixels that were observed; see the top of this module.

    Parameters
    ----------
    dn
        ``(band, row, col)``, stored values, before scale and offset.
    rules
        What they mean.
    hidden
        bool ``(row, col)``: pixels that a mask of the file or a cloud mask hides.

    Returns
    -------
    numpy.ndarray
        bool ``(row, col)``.

    Examples
    --------
    >>> rules = ValueRules(("B04", "B08"), (0, 0), (1e-4, 1e-4), (0.0, 0.0))
    >>> dn = np.array([[[0, 1, 0, 300, 65535]], [[0, 3, 3600, 2800, 3000]]], np.uint16)
    >>> observed(dn, rules).tolist()
    [[False, False, True, True, False]]
    """
    codes, _ = judge(dn, rules, hidden)
    return codes < MISSING


def judge(
    dn: Array, rules: ValueRules, hidden: Valid | None = None, *, neighbours: bool = True
) -> tuple[NDArray[np.uint8], bool]:
    """Give each pixel one of the codes of this module; those below :data:`MISSING` are observed.

    Parameters
    ----------
    dn, rules, hidden
        As for :func:`observed`.
    neighbours
        Apply the rules that look at neighbours; not for decimated pixels.

    Returns
    -------
    codes : numpy.ndarray
        uint8 ``(row, col)``.
    is_open : bool
        Whether pixels beyond the sides of ``dn``, up to :data:`REACH_PX` away, could change a code.
    """
    codes: NDArray[np.uint8] = np.zeros(dn.shape[1:], np.uint8)
    asked = np.zeros(dn.shape[1:], np.bool_)
    strips = _Strips(dn, rules)
    for row in range(0, dn.shape[1], _STRIP_ROWS):
        part = slice(row, row + _STRIP_ROWS)
        strips.judge(
            dn[:, part], codes[part], asked[part], None if hidden is None else hidden[part]
        )
    if not neighbours or not asked.any():
        return codes, False
    near = _near_missing(codes, asked)
    codes[near & (codes == DARK)] = EDGE
    codes[near & asked & (codes == OBSERVED)] = STRIPE
    inner = asked[REACH_PX:-REACH_PX, REACH_PX:-REACH_PX]
    return codes, bool(np.count_nonzero(inner) < np.count_nonzero(asked))


class _Strips:
    """Rules of single pixels, with their limits in stored units."""

    def __init__(self, dn: Array, rules: ValueRules) -> None:
        dtype = dn.dtype
        self.rules = rules
        self.limits = rules.limits(dtype)
        self.no_ground = rules.at_most(_NO_GROUND, dtype)
        if dtype == np.uint8:
            # Bytes are stretched for display: the darkest 10 of 256 steps are ground.
            self.no_ground = [0.0] * len(dn)
        elif np.issubdtype(dtype, np.inexact) and not rules.was_integer:
            # Fractions may be reflectance whose scale was not given: not everything is dark then.
            self.no_ground = [min(limit, _NO_GROUND) for limit in self.no_ground]
        self.markers = [
            None if value is None or math.isnan(value) else _fitting(value, dtype)
            for value in rules.nodata
        ]
        saturated = rules.saturated
        self.saturated = None if saturated is None else _fitting(saturated, dtype)
        # Nothing says what marks missing pixels.
        self.may_be_blank = np.issubdtype(dtype, np.inexact) and set(rules.nodata) == {None}
        self.visible = [n for n, band in enumerate(rules.bands) if band in _VISIBLE]
        self.infrared = [n for n, band in enumerate(rules.bands) if band in _INFRARED]
        self.bright = rules.at_least(_BRIGHT_BESIDE_VISIBLE, dtype)
        self.very_bright = rules.at_least(_BRIGHT_BESIDE_INFRARED, dtype)

    def judge(
        self, dn: Array, codes: NDArray[np.uint8], asked: Valid, hidden: Valid | None
    ) -> None:
        """Write the codes of a strip, and which of its pixels depend on their neighbours."""
        if not self._is_plain(dn):
            self._judge_values(dn, codes, asked)
        if hidden is not None:
            codes[hidden] = MISSING
        if len(dn) > 1:
            same = dn[1] == dn[0]
            for band in dn[2:]:
                if not same.any():
                    break
                same &= band == dn[0]
            asked |= same
        asked &= codes < MISSING

    def _is_plain(self, dn: Array) -> bool:
        """Return whether the extremes of the bands alone tell that every pixel is observed."""
        for number, band in enumerate(dn):
            low, high = band.min(), band.max()
            lowest, highest = self.limits[number]
            marker = self.markers[number]
            if not (lowest <= low and high <= highest):  # also for NaN
                return False
            if marker is not None and low <= marker <= high:
                return False
            if self.saturated is not None and high >= self.saturated:
                return False
            if self.rules.zero_marks and low <= max(self.no_ground[number], 0):
                return False
            if self.may_be_blank and low <= 0:
                return False
        return True

    def _judge_values(self, dn: Array, codes: NDArray[np.uint8], asked: Valid) -> None:
        missing = np.zeros(codes.shape, np.bool_)
        beyond = np.zeros(codes.shape, np.bool_)
        saturated = np.zeros(codes.shape, np.bool_)
        zero_marks = self.rules.zero_marks
        for number, band in enumerate(dn):
            marker, (lowest, highest) = self.markers[number], self.limits[number]
            if marker is not None and not (zero_marks and marker == 0):
                missing |= band == marker
            if np.issubdtype(dn.dtype, np.inexact):
                missing |= ~np.isfinite(band)
            beyond |= (band < lowest) | (band > highest)
            if self.saturated is not None:
                saturated |= band == self.saturated
        if zero_marks:
            zeros = dn == 0
            if self.rules.offset_to_come:
                # Below the lowest reflectance, or not: 0 is no measured value.
                beyond &= ~zeros.any(axis=0)
            self._judge_zeros(dn, zeros, codes, asked)
        elif self.may_be_blank:
            codes[(dn == 0).all(axis=0)] = BLANK
        codes[beyond] = BEYOND
        codes[saturated] = SATURATED
        codes[missing] = MISSING

    def _judge_zeros(self, dn: Array, zeros: Valid, codes: NDArray[np.uint8], asked: Valid) -> None:
        """Write the codes where 0 marks missing pixels."""
        some = zeros.any(axis=0)
        nothing = np.ones(codes.shape, np.bool_)
        for band, limit in zip(dn, self.no_ground, strict=True):
            nothing &= (band >= 0) & (band <= limit)
        if self.rules.offset_to_come:
            codes[some] = EDGE
        else:
            codes[some] = DARK
            asked |= some
            if not self.rules.zero_is_nodata:
                edge = self._any_zero(zeros, self.visible) & self._any_above(dn, self.bright)
                edge |= self._any_zero(zeros, self.infrared) & self._any_above(dn, self.very_bright)
                codes[edge] = EDGE
        codes[nothing] = MISSING

    @staticmethod
    def _any_zero(zeros: Valid, numbers: list[int]) -> Valid:
        return np.asarray(zeros[numbers].any(axis=0))

    def _any_above(self, dn: Array, limits: list[float]) -> Valid:
        found = np.zeros(dn.shape[1:], np.bool_)
        for number in self.visible:
            found |= dn[number] >= limits[number]
        return found


def _near_missing(codes: NDArray[np.uint8], asked: Valid) -> Valid:
    """Find the pixels near a square of missing ones; only those around asked ones are looked at."""
    near = np.zeros(codes.shape, np.bool_)
    rows, cols = (np.flatnonzero(asked.any(axis=axis)) for axis in (1, 0))
    around = tuple(
        slice(max(0, int(indices[0]) - REACH_PX), int(indices[-1]) + REACH_PX + 1)
        for indices in (rows, cols)
    )
    missing = (codes[around] == MISSING).astype(np.uint8)
    if missing.any():
        # Beyond the array nothing is known to be missing.
        squares = minimum_filter(missing, size=_CORE_PX, mode="constant", cval=0)
        near[around] = maximum_filter(squares, size=2 * _NEAR_PX + 1, mode="constant", cval=0)
    return near


def clipped(dn: Array, rules: ValueRules) -> Array:
    """Return stored values within what reflectance can be, 0 to 1, for a network.

    A network answers to values beyond those it was trained on by changes far away: in a real crop,
    100 px of reflectance 2 changed 5 to 10 % of the rest of the mask, of reflectance 1 less than 1
    %. Below 0 is noise of the correction for the atmosphere, which products before processing
    baseline 04.00 could not store either.

    Parameters
    ----------
    dn
        ``(band, row, col)``, stored values.
    rules
        What they mean.

    Returns
    -------
    numpy.ndarray
        ``dn`` itself where nothing is to be clipped, else a copy; NaN remains.
    """
    result = dn
    for number, (scale, offset) in enumerate(zip(rules.scale, rules.offset, strict=True)):
        low, high = _stored((0.0, 1.0), scale, offset, dn.dtype)
        band = dn[number]
        if low <= band.min() and band.max() <= high:
            continue
        if result is dn:
            result = dn.copy()
        np.clip(band, _in_range(low, dn.dtype), _in_range(high, dn.dtype), out=result[number])
    return result


@dataclass
class ValueCounts:
    """Counts of pixels by what their values are; see the codes of this module.

    Attributes
    ----------
    dark, stripe, blank
        Observed pixels.
    edge, beyond, saturated
        Unobserved pixels.
    beyond_by_band
        Values that no surface has, per band.
    beyond_values, stripe_values
        Number of values by value, as text; the commonest of each part of the scene.
    """

    dark: int = 0
    stripe: int = 0
    blank: int = 0
    edge: int = 0
    beyond: int = 0
    saturated: int = 0
    beyond_by_band: list[int] = field(default_factory=list)
    beyond_values: dict[str, int] = field(default_factory=dict)
    stripe_values: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls, dn: Array, codes: NDArray[np.uint8], rules: ValueRules, counted: Valid
    ) -> ValueCounts:
        """Count the pixels ``counted`` ``(row, col)`` of ``dn`` ``(band, row, col)``."""
        if not codes.any():
            return cls(beyond_by_band=[0] * len(dn))
        numbers = np.bincount(codes[counted], minlength=SATURATED + 1).tolist()
        counts = cls(
            dark=numbers[DARK],
            stripe=numbers[STRIPE],
            blank=numbers[BLANK],
            edge=numbers[EDGE],
            beyond=numbers[BEYOND],
            saturated=numbers[SATURATED],
            beyond_by_band=[0] * len(dn),
        )
        if counts.stripe:
            counts.stripe_values = _commonest(dn[0][counted & (codes == STRIPE)])
        if counts.beyond:
            pixels = dn[:, counted & (codes == BEYOND)]
            limits = zip(pixels, rules.limits(dn.dtype), strict=True)
            beyond = [band[(band < low) | (band > high)] for band, (low, high) in limits]
            counts.beyond_by_band = [one.size for one in beyond]
            counts.beyond_values = _commonest(np.concatenate(beyond))
        return counts

    def __iadd__(self, other: ValueCounts) -> ValueCounts:
        for name in ("dark", "stripe", "blank", "edge", "beyond", "saturated"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        own = self.beyond_by_band or [0] * len(other.beyond_by_band)
        self.beyond_by_band = [a + b for a, b in zip(own, other.beyond_by_band, strict=True)]
        for name in ("beyond_values", "stripe_values"):
            both = Counter(getattr(self, name))
            both.update(getattr(other, name))
            setattr(self, name, dict(both))
        return self


def commonest(values: dict[str, int]) -> str | None:
    """Return the value with the highest count; of several the first as text; None without any.

    Examples
    --------
    >>> commonest({"65535": 3, "-9999": 7}), commonest({}) is None
    ('-9999', True)
    """
    return min(values, key=lambda value: (-values[value], value), default=None)


def _commonest(values: Array) -> dict[str, int]:
    found, numbers = np.unique(values, return_counts=True)
    order = np.lexsort((found, -numbers))[:_KEPT_VALUES]
    return {f"{found[n].item():.17g}": int(numbers[n]) for n in order}


def _stored(
    reflectance: tuple[float, float], scale: float, offset: float, dtype: np.dtype[Any]
) -> tuple[float, float]:
    """Return the stored values of a range of reflectance, lowest first; whole for integers."""
    if not scale:
        return -math.inf, math.inf
    low, high = sorted((value - offset) / scale for value in reflectance)
    if np.issubdtype(dtype, np.integer):
        return math.ceil(low - _ROUNDING), math.floor(high + _ROUNDING)
    slack = _ROUNDING / abs(scale)
    return low - slack, high + slack


def _fitting(value: float, dtype: np.dtype[Any]) -> float | None:
    """Return a value as the type stores it; None when no pixel can have it."""
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        return int(value) if value == int(value) and info.min <= value <= info.max else None
    return float(dtype.type(value))


def _in_range(value: float, dtype: np.dtype[Any]) -> float:
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        return min(max(value, info.min), info.max)
    return value
