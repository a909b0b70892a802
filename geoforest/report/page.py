"""Pages of HTML from the templates of this folder, with their pictures inside."""

from __future__ import annotations

import base64
from importlib.resources import files
from typing import Any

import jinja2


def render(template: str, **values: Any) -> str:
    """Fill a template, by its file name.

    ``image | picture`` makes the bytes of a PNG or JPEG file the source of an img.

    Text is escaped, and a name without a value is an error.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["picture"] = _picture
    source = (files("geoforest") / "report" / template).read_text(encoding="utf-8")
    return environment.from_string(source).render(**values)


def _picture(image: bytes) -> str:
    kind = "jpeg" if image.startswith(b"\xff\xd8") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
