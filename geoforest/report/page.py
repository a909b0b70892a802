"""HTML pages from the templates of this folder, with embedded pictures."""

from __future__ import annotations

import base64
from functools import cache
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from geoforest.report.language import language

if TYPE_CHECKING:
    from collections.abc import Callable

    from geoforest.report.language import Language, LanguageCode


def render(template: str, code: LanguageCode = "en", **values: Any) -> str:
    """Fill the template with this file name, in a language, and return its text.

    Values are escaped, and a missing one is an error. In a template, ``_("text {n}", n=value)``
    translates a text, which may have markup, ``value | number(digits)`` formats a number, and
    ``image | picture`` turns the bytes of a PNG or JPEG file into the ``src`` of an ``img``.
    """
    return _environment(code).get_template(template).render(**values)


@cache
def _environment(code: LanguageCode) -> jinja2.Environment:
    loader = jinja2.PackageLoader("geoforest", "report/templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined
    )
    chosen = language(code)
    environment.globals.update(language=chosen, _=_translator(chosen))
    environment.filters.update(
        picture=_picture,
        number=chosen.number,
        significant=chosen.significant,
    )
    return environment


def _translator(chosen: Language) -> Callable[..., Markup]:
    def translate(text: str, **values: Any) -> Markup:
        # Texts of the catalogue may have markup; values are escaped.
        return Markup(chosen(text)).format(**values)

    return translate


def _picture(image: bytes) -> str:
    kind = "jpeg" if image.startswith(b"\xff\xd8") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
