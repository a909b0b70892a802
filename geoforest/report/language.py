"""Texts of pages and QGIS projects in the reader's language, from one catalogue per language.

A catalogue is ``locale/CODE.po``, which translators open with their usual tools. A text without a
translation is shown in English. `docs/languages.md` tells how to add a language.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from geoforest.io.names import FOREST_LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

LanguageCode = Literal["en", "pt"]
LANGUAGES: Final = get_args(LanguageCode)
CATALOGUES: Final = Path(__file__).with_name("locale")


def message(text: str) -> str:
    """Mark a text for the catalogues, and return it unchanged: it is translated where it is shown.

    Values stand in braces, as for :meth:`str.format`.
    """
    return text


@dataclass(frozen=True)
class Language:
    """A language: calling it translates a text.

    Attributes
    ----------
    code
        ISO 639-1 code.
    texts
        Translation of each English text.
    """

    code: str
    texts: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __call__(self, text: str, **values: Any) -> str:
        """Translate a text, and fill in its values."""
        translated = self.texts.get(text, text)
        return translated.format(**values) if values else translated

    def number(self, value: float, digits: int = 0) -> str:
        """Format a number with separators and a fixed number of decimals."""
        from babel.numbers import format_decimal

        decimals = "." + "0" * digits if digits else ""
        return format_decimal(value, f"#,##0{decimals}", locale=self.code)

    def significant(self, value: float) -> str:
        """Format a number with as many decimals as it has, at most six digits in all."""
        from babel.numbers import format_decimal

        return format_decimal(float(f"{value:g}"), "#,##0.######", locale=self.code)

    def numerals(self, values: Mapping[str, str]) -> dict[str, str]:
        """Write numbers such as `2.20` with the language's decimal sign; other texts stay."""
        from babel.numbers import get_decimal_symbol

        sign = get_decimal_symbol(self.code)
        return {
            name: text.replace(".", sign) if re.fullmatch(r"-?\d+\.\d+", text) else text
            for name, text in values.items()
        }

    def date(self, when: datetime) -> str:
        """Format the day of a time in words, such as `13 August 2020`."""
        from babel.dates import format_date

        form = {"en": "d MMMM yyyy"}.get(self.code, "long")
        return format_date(when, form, locale=self.code)

    def coordinates(self, lon: float, lat: float) -> str:
        """Format a place in degrees, such as `10.2504° S, 62.3500° W`."""
        south = self("S") if lat < 0 else self("N")
        west = self("W") if lon < 0 else self("E")
        return f"{self.number(abs(lat), 4)}° {south}, {self.number(abs(lon), 4)}° {west}"


ENGLISH: Final = Language("en")
# Letters of the points of the compass, and the label that summaries have.
_ELSEWHERE = (message("N"), message("S"), message("E"), message("W"), message(FOREST_LABEL))


@cache
def language(code: str) -> Language:
    """Return a language by its code, one of :data:`LANGUAGES`."""
    if code == ENGLISH.code:
        return ENGLISH
    from babel.messages.pofile import read_po

    with (CATALOGUES / f"{code}.po").open("rb") as handle:
        catalogue = read_po(handle, locale=code)
    texts = {
        str(one.id): str(one.string) for one in catalogue if one.id and one.string and not one.fuzzy
    }
    return Language(code, texts)
