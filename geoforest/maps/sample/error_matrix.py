"""Compute areas and accuracies, with standard errors, from an error matrix. Arrays only.

Equations are those of Olofsson et al. 2014, Good practices for estimating area and assessing
accuracy of land change, Remote Sensing of Environment 148, 42-57 (doi 10.1016/j.rse.2014.02.015).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats = NDArray[np.float64]

# Half width of a 95 % interval in standard errors, as in the paper.
_Z95 = 1.96


@dataclass(frozen=True)
class Figure:
    """An estimate with its 95 % interval.

    When labels are few and a share is near 0 or 1, it holds the truth somewhat less often.

    Attributes
    ----------
    value
        Estimate: hectares, or a share of 1.
    standard_error
        Standard error of ``value``, in its unit.
    low, high
        ``value`` minus and plus 1.96 standard errors, clipped to the possible range.
    """

    value: float
    standard_error: float
    low: float
    high: float

    @classmethod
    def within(cls, value: float, standard_error: float, most: float) -> Figure | None:
        """Build a figure clipped to 0 to ``most``; return None when the value is NaN."""
        if math.isnan(value):
            return None
        margin = _Z95 * standard_error
        return cls(value, standard_error, max(0.0, value - margin), min(most, value + margin))


@dataclass(frozen=True, eq=False)
class Estimates:
    """Areas and accuracies from an error matrix; NaN where it has no evidence.

    Attributes
    ----------
    hectares
        ``(stratum, class)``: the error matrix in area terms, equation 4 times the total area.
    area, area_se
        ``(class,)``: hectares, and their standard error, equations 10 and 11.
    users, users_se
        ``(stratum,)``: user's accuracy, equations 2 and 6; NaN for a stratum that is not a class.
    producers, producers_se
        ``(class,)``: producer's accuracy, equations 3 and 7; NaN for a class never found.
    overall, overall_se
        Overall accuracy of the strata that are classes, equations 1 and 5.
    """

    hectares: Floats
    area: Floats
    area_se: Floats
    users: Floats
    users_se: Floats
    producers: Floats
    producers_se: Floats
    overall: float
    overall_se: float


def estimates(
    counts: NDArray[np.integer], hectares: Floats, claims: Sequence[int | None]
) -> Estimates:
    """Compute all estimates of an error matrix.

    As in the paper there is no finite-population correction: an interval gets no narrower when a
    large part of a stratum was drawn.

    Parameters
    ----------
    counts
        Integers ``(stratum, class)``: labelled points by stratum and reference class; at least two
        per stratum.
    hectares
        float64 ``(stratum,)``: area of each stratum in the map.
    claims
        Column of ``counts`` with the class that each stratum is mapped as; None for a stratum that
        is not a class.

    Returns
    -------
    Estimates

    Examples
    --------
    The paper's example, pixels of 30 m:

    >>> counts = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
    >>> pixels = np.array([200_000, 150_000, 3_200_000, 6_450_000])
    >>> found = estimates(counts, pixels * 0.09, [0, 1, 2, 3])
    >>> print(f"{found.area[0]:,.0f} +- {1.96 * found.area_se[0]:,.0f} ha")
    21,158 +- 6,158 ha
    """
    n = counts.sum(axis=1)
    share = counts / n[:, None]
    # All equations use this variance of a share within a stratum.
    variance = share * (1 - share) / (n - 1)[:, None]
    matrix = hectares[:, None] * share
    spread = hectares[:, None] ** 2 * variance
    area = matrix.sum(axis=0)
    rows = np.array([row for row, claim in enumerate(claims) if claim is not None])
    cols = np.array([claim for claim in claims if claim is not None])
    users, users_se = np.full(len(hectares), np.nan), np.full(len(hectares), np.nan)
    users[rows] = share[rows, cols]
    users_se[rows] = np.sqrt(variance[rows, cols])
    right, right_spread = np.zeros(len(area)), np.zeros(len(area))
    right[cols], right_spread[cols] = matrix[rows, cols], spread[rows, cols]
    with np.errstate(invalid="ignore"):
        producers = right / area
        producers_se = (
            np.sqrt(
                (1 - producers) ** 2 * right_spread
                + producers**2 * (spread.sum(axis=0) - right_spread)
            )
            / area
        )
    claimed = hectares[rows].sum()
    return Estimates(
        hectares=matrix,
        area=area,
        area_se=np.sqrt(spread.sum(axis=0)),
        users=users,
        users_se=users_se,
        producers=producers,
        producers_se=producers_se,
        overall=float(right.sum() / claimed) if len(rows) else math.nan,
        overall_se=math.sqrt(right_spread.sum()) / claimed if len(rows) else math.nan,
    )
