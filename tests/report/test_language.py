"""Catalogues of texts: whole, and with the places for values that the English text has."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from geoforest.report.language import LANGUAGES, language
from scripts.texts import texts

OTHERS = [code for code in LANGUAGES if code != "en"]


@pytest.mark.parametrize("code", OTHERS)
def test_every_text_is_translated_and_keeps_its_values_and_marks(code):
    translated = language(code).texts
    assert set(translated) == set(texts()), "run python -m scripts.texts"
    kept = re.compile(r"\{\w+\}|</?\w+>")
    for text, other in translated.items():
        assert sorted(kept.findall(other)) == sorted(kept.findall(text)), text


def test_texts_of_code_templates_and_styles_are_found():
    found = texts()
    assert found["Forest cover (model)"] == ["geoforest/pipeline/products/qgis.py"]
    assert "geoforest/report/templates/report.html" in found["Quality checks"]
    assert "geoforest/io/styles/sample.qml" in found["How sure?"]
    assert "geoforest/report/templates/labelling.qpt" in found["How sure?"]
    assert "0.05" not in found


def test_numbers_dates_and_places():
    english, portuguese = language("en"), language("pt")
    day = datetime(2020, 8, 3, 14, tzinfo=UTC)
    assert (english.number(1234.56, 1), portuguese.number(1234.56, 1)) == ("1,234.6", "1.234,6")
    assert (english.number(1234), portuguese.number(1234)) == ("1,234", "1.234")
    assert (english.significant(0.5), portuguese.significant(10.0)) == ("0.5", "10")
    assert (english.date(day), portuguese.date(day)) == ("3 August 2020", "3 de agosto de 2020")
    assert english.coordinates(-62.35, -10.25) == "10.2500° S, 62.3500° W"
    assert portuguese.coordinates(-62.35, 10.25) == "10,2500° N, 62,3500° O"
    assert portuguese.numerals({"a": "2.20", "b": "v1.2", "c": "7"}) == {
        "a": "2,20", "b": "v1.2", "c": "7",
    }  # fmt: skip
    assert portuguese("a text that nobody translated {n}", n=1) == "a text that nobody translated 1"
