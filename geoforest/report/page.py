"""Pages of HTML from the templates of this folder, with their pictures inside."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any

import jinja2


def render(template: str, **values: Any) -> str:
    """Fill a template, by its file name.

    ``image | picture`` makes the bytes of a PNG or JPEG file the source of an img.

    Text is escaped, and a name without a value is an error.
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
