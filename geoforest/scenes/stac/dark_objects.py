"""Check by the darkest pixels whether ESA's offset is still in them.

From processing baseline 04.00 on, ESA adds 1000 to the digital numbers (DN), and the metadata state
an offset of -0.1 for it. Some catalogues subtract the 1000 from the pixels and still state the
offset, or state wrongly whether they did. An offset applied twice, or not at all, turns pasture
into forest.

Vegetation is dark in red: its reflectance is about 0.02 to 0.05, so the darkest hundredth of a
scene has a DN of 100 to 300, or 1100 to 1300 with the 1000 still in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from geoforest.types import Array

ESA_OFFSET: Final = -0.1
ESA_SCALE: Final = 1e-4
_FIRST_WITH_OFFSET: Final = (4, 0)
_DARKEST_PERCENT: Final = 1
# With the 1000 still in it, this DN would be a reflectance of -0.05: no surface is that dark.
_APPLIED_BELOW: Final = 500
# Without the 1000, this DN is a reflectance of 0.09: only vegetation under haze is that bright.
_NOT_APPLIED_FROM: Final = 900
# Near infrared minus red, which no offset changes; bright soil and cloud stay below.
_VEGETATED_DN: Final = 2000
# With this share, vegetation is among the darkest hundredth.
_VEGETATED_PERCENT: Final = 10
_LEAST_PX: Final = 1000


@dataclass(frozen=True)
class DarkObjects:
    """Statistics of the sampled pixels.

    Attributes
    ----------
    darkest_red
        The 1st percentile of red over the observed pixels, DN.
    vegetated_percent
        Share of observed pixels whose near infrared exceeds red by more than 2000 DN.
    """

    darkest_red: float
    vegetated_percent: float

    @property
    def offset_applied(self) -> bool | None:
        """Whether ESA's 1000 has been subtracted; None when the pixels do not show it."""
        if self.darkest_red < _APPLIED_BELOW:
            return True
        dense = self.vegetated_percent >= _VEGETATED_PERCENT
        return False if dense and self.darkest_red >= _NOT_APPLIED_FROM else None

    def __str__(self) -> str:
        return (
            f"the darkest hundredth of red ends at DN {self.darkest_red:.0f}, "
            f"{self.vegetated_percent:.0f} % is green"
        )


def dark_objects(red: Array, nir: Array, *, nodata: float | None) -> DarkObjects | None:
    """Compute statistics of red and near-infrared samples; None with too few observed pixels.

    Parameters
    ----------
    red, nir
        Digital numbers of the same pixels, of any shape; unobserved ones may be NaN.
    nodata
        Value of unobserved pixels.
    """
    if red.shape != nir.shape:
        return None
    seen = np.isfinite(red) & np.isfinite(nir)
    if nodata is not None:
        seen &= (red != nodata) & (nir != nodata)
    if np.count_nonzero(seen) < min(_LEAST_PX, red.size // 2):
        return None
    red, nir = red[seen].astype(np.float64), nir[seen].astype(np.float64)
    return DarkObjects(
        darkest_red=float(np.percentile(red, _DARKEST_PERCENT)),
        vegetated_percent=float(100 * np.mean(nir - red > _VEGETATED_DN)),
    )


@dataclass(frozen=True)
class SettledOffset:
    """The offset to use, with the evidence for it.

    Attributes
    ----------
    offset
        Offset of reflectance.
    note
        Sentence for the user; None when metadata and pixels agree.
    facts
        The evidence, for the summary.
    """

    offset: float
    note: str | None
    facts: dict[str, Any]


def settle_offset(
    stated: float | None, flag: bool | None, baseline: str | None, seen: DarkObjects | None
) -> SettledOffset:
    """Choose the offset: by the pixels when they are clear, otherwise by the metadata.

    Parameters
    ----------
    stated
        Offset in the metadata: 0 or ESA's -0.1; None when there is none.
    flag
        Whether the catalogue states that it applied the offset to the pixels; None without a flag.
    baseline
        Processing baseline, such as ``05.09``; before 04.00 there was no offset.
    seen
        Statistics from :func:`dark_objects`.
    """
    applied = seen.offset_applied if seen else None
    if _before_offsets(baseline):
        stated = stated or 0.0
        applied = applied or None
    by_metadata = 0.0 if flag else stated or 0.0
    offset = by_metadata if applied is None else 0.0 if applied else ESA_OFFSET
    facts = {
        "offset_stated": stated,
        "offset_flagged_applied": flag,
        "offset_seen_applied": applied,
        "darkest_red_dn": round(seen.darkest_red, 1) if seen else None,
        "vegetated_percent": round(seen.vegetated_percent, 1) if seen else None,
    }
    return SettledOffset(offset, _note(stated, flag, applied, offset, seen), facts)


def _note(
    stated: float | None,
    flag: bool | None,
    applied: bool | None,
    offset: float,
    seen: DarkObjects | None,
) -> str | None:
    contradictory = bool(flag and stated)
    if stated == offset and not contradictory:
        return None
    said = "states no offset" if stated is None else f"states offset {stated:g}"
    if flag is not None:
        said += f" and that it has {'' if flag else 'not '}been applied"
    if applied is None:
        shown = f"the pixels do not tell{f' ({seen})' if seen else ''}"
    else:
        shown = f"the pixels show that it has {'' if applied else 'not '}been applied ({seen})"
    return f"the item {said}, {shown}: offset {offset:g}, unless --offset gives another"


def _before_offsets(baseline: str | None) -> bool:
    try:
        major, minor = map(int, (baseline or "").split("."))
    except ValueError:
        return False
    return (major, minor) < _FIRST_WITH_OFFSET
