"""Tables as CSV text."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DIGITS = 6
_DECIMALS = 4


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format rows with the same keys as CSV with a header.

    Fractions have six significant digits, and larger ones four decimals, which are square metres in
    hectares; what is beyond them has no meaning in a map.

    Examples
    --------
    >>> csv_text([{"unit": "a,b", "ha": 1234.56789012}, {"unit": "c", "ha": None}]).splitlines()
    ['unit,ha', '"a,b",1234.5679', 'c,']
    >>> csv_text([{"f1": 2 / 3, "rate": 1e-5, "pixels": 123456789}]).splitlines()
    ['f1,rate,pixels', '0.666667,1e-05,123456789']
    """
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _meaningful(value) for key, value in row.items()} for row in rows)
    return stream.getvalue()


def _meaningful(value: Any) -> Any:
    if not isinstance(value, float) or not math.isfinite(value) or value == 0:
        return value
    decimals = _DIGITS - 1 - math.floor(math.log10(abs(value)))
    return round(value, max(decimals, _DECIMALS))
