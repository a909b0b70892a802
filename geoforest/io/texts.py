"""Texts of vector files in the encoding that they have, and names in one spelling."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any, Final

from geoforest.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import pandas as pd

# What most programs of desktops wrote before UTF-8.
_COMMON: Final = "Windows-1252"
# Signs without width, which stay in names that are copied from pages.
_INVISIBLE: Final = dict.fromkeys(map(ord, "\u200b\ufeff\u00ad"))


def decoded_column(
    path: Path,
    name: str,
    values: pd.Series,
    as_declared: Sequence[Any] | None,
    notes: list[str],
    *,
    declared: bool,
) -> pd.Series:
    """Decode the texts of a column, whose encoding its file may state wrongly or not at all.

    Parameters
    ----------
    path, name
        File and column, for messages.
    values
        Texts in which each letter is one byte of the file; others are no texts.
    as_declared
        The texts in the encoding that the file states; None when they cannot be read in it.
    notes
        Sentences for the user; one is added where the encoding is not what the file states.
    declared
        Whether the file states an encoding.

    Raises
    ------
    InputError
        When they are neither in the encoding that the file states nor UTF-8.
    """
    raw = [one.encode("latin-1") if isinstance(one, str) else one for one in values]
    texts = [one for one in raw if isinstance(one, bytes)]
    if all(one.isascii() for one in texts):
        return values
    decode: Callable[[bytes], str] = _as_utf8
    if not _are_utf8(texts):
        decode = _as_common
    made = [decode(one) if isinstance(one, bytes) else one for one in raw]
    if decode is _as_utf8:
        if as_declared is None or _differ(made, as_declared):
            notes.append(
                f"{path}: the texts of {name} are UTF-8, which the file does not state or states "
                "otherwise; they were read as UTF-8 (a .cpg file with the word UTF-8 says so)"
            )
    elif as_declared is not None:
        made = list(as_declared)
    elif declared:
        first = next(one for one in texts if not one.isascii())
        raise InputError(
            f"{path}: the texts of {name}, such as {first!r}, are not in the encoding that its "
            ".cpg file states; the right one was wanted there, perhaps ISO-8859-1"
        )
    else:
        notes.append(
            f"{path}: nothing states the encoding of its texts; those of {name} were read as "
            f"{_COMMON} (a .cpg file with the name of an encoding says which it is)"
        )
    return type(values)(made, dtype=object)


def decoded_name(name: str) -> str:
    """Decode the name of a column in which each letter is one byte of the file."""
    raw = name.encode("latin-1")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return _as_common(raw)


def one_spelling(text: str) -> str:
    """Return a name as most would write it: composed letters (NFC), single spaces, none around.

    Examples
    --------
    >>> one_spelling("  São   Félix ")
    'São Félix'
    """
    return " ".join(unicodedata.normalize("NFC", text).translate(_INVISIBLE).split())


def _are_utf8(texts: Sequence[bytes]) -> bool:
    """Check that texts can only be UTF-8; the column's width may have cut the last letter."""
    longest = max(map(len, texts))
    seen = False
    for one in texts:
        try:
            one.decode()
        except UnicodeDecodeError as error:
            if error.reason != "unexpected end of data" or len(one) < longest:
                return False
        else:
            seen = seen or not one.isascii()
    return seen


def _as_utf8(raw: bytes) -> str:
    return raw.decode(errors="ignore")


def _as_common(raw: bytes) -> str:
    try:
        return raw.decode("cp1252")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _differ(texts: Sequence[Any], others: Sequence[Any]) -> bool:
    pairs = zip(texts, others, strict=True)
    return any(isinstance(one, str) and one != other for one, other in pairs)
