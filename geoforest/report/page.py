"""HTML pages from the templates of this folder, with embedded pictures."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any

import jinja2


def render(template: str, **values: Any) -> str:
    """Fill the template with this file name and return its text.

    Values are escaped, and a missing one is an error. In a template, ``image | picture`` turns the
    bytes of a PNG or JPEG file into the ``src`` of an ``img``.
    """
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> jinja2.Environment:
    loader = jinja2.PackageLoader("geoforest", "report/templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["picture"] = _picture
    return environment


def _picture(image: bytes) -> str:
    kind = "jpeg" if image.startswith(b"\xff\xd8") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
