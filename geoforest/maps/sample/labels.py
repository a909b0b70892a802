"""Check and count the labels of a sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geoforest.errors import InputError
from geoforest.io.texts import one_spelling
from geoforest.maps.sample.file import NOT_INTERPRETABLE, SampleFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

# Codes of classes are 0 or more.
_LEFT_OUT = -1
_UNLABELLED = -2
# The variance of a stratum needs two labels.
_FEWEST = 2


@dataclass(frozen=True, eq=False)
class LabelCounts:
    """Number of labels by stratum, in the order of the sample's strata.

    Attributes
    ----------
    counts
        ``(stratum, class)``, int64: the error matrix.
    not_interpretable, unlabelled
        ``(stratum,)``, int64: points left out.
    """

    counts: NDArray[np.int64]
    not_interpretable: NDArray[np.int64]
    unlabelled: NDArray[np.int64]


def count_labels(
    sample: SampleFile, classes: Mapping[int, str], *, stopped_early: bool = False
) -> LabelCounts:
    """Count the labels of a sample.

    Parameters
    ----------
    sample
        Sample that was read.
    classes
        Code to name; a label is one of either, or ``not interpretable``.
    stopped_early
        See :func:`geoforest.maps.sample.estimate.estimate_area`.

    Raises
    ------
    InputError
        When labels are missing or unknown, or a stratum has fewer than two.
    """
    codes = [_label_code(sample, row, classes) for row in sample.points.to_dict("records")]
    _check_gaps(sample, codes, stopped_early)
    column = {code: place for place, code in enumerate([*classes, _LEFT_OUT, _UNLABELLED])}
    row_of = {each.code: place for place, each in enumerate(sample.strata)}
    table = np.zeros((len(row_of), len(column)), np.int64)
    for stratum, code in zip(sample.points["stratum"], codes, strict=True):
        table[row_of[int(stratum)]][column[code]] += 1
    counts = table[:, : len(classes)]
    for each, n in zip(sample.strata, counts.sum(axis=1), strict=True):
        if n < _FEWEST:
            raise InputError(
                f"{sample.path}: stratum {each.name} has {n} label(s) of a class; at least "
                f"{_FEWEST} were wanted" + (f"; {sample.note}" if sample.note else "")
            )
    return LabelCounts(counts, table[:, -2], table[:, -1])


def _label_code(sample: SampleFile, point: Mapping[str, Any], classes: Mapping[int, str]) -> int:
    value = point["reference"]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return _UNLABELLED
    text = one_spelling(str(value)).casefold()
    if not text:
        return _UNLABELLED
    known = {name.casefold(): code for code, name in classes.items()}
    # A column of numbers reads as 1.0 where some are missing.
    known |= {str(code): code for code in classes} | {f"{code}.0": code for code in classes}
    known[NOT_INTERPRETABLE] = _LEFT_OUT
    if text not in known:
        wanted = ", ".join([*classes.values(), NOT_INTERPRETABLE])
        raise InputError(
            f"{sample.path}: sample_id {point['sample_id']:g} is labelled {str(value)[:40]!r}; "
            f"one of {wanted} was wanted"
        )
    return known[text]


def _check_gaps(sample: SampleFile, codes: list[int], stopped_early: bool) -> None:
    missing = [place for place, code in enumerate(codes) if code == _UNLABELLED]
    if not missing:
        return
    lost = f"; {sample.note}" if sample.note else ""
    first = f"the first is sample_id {sample.points['sample_id'].iloc[missing[0]]:g}"
    if not stopped_early:
        raise InputError(
            f"{sample.path}: {len(missing)} of {len(codes)} points have no label ({first}); label "
            f"all, those that cannot be judged as {NOT_INTERPRETABLE!r}, or say that the labelling "
            f"stopped early (--stopped-early){lost}"
        )
    if missing[0] + len(missing) < len(codes):
        raise InputError(
            f"{sample.path}: points without a label ({first}) lie before others with one; labels "
            f"in the order of sample_id, without gaps, were wanted{lost}"
        )
