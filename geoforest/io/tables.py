"""Tables as CSV text."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format rows with the same keys as CSV with a header; numbers read back unchanged.

    Examples
    --------
    >>> csv_text([{"chip": "a,b", "f1": 0.1}, {"chip": "c", "f1": None}]).splitlines()
    ['chip,f1', '"a,b",0.1', 'c,']
    """
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
