"""Tables and pictures that Dagster shows with a materialisation."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from PIL import Image

# Dagster's database keeps one preview per materialisation.
_SIDE_PX = 720


def table(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Build a table of rows with the same keys; values other than numbers become text."""
    records = [
        dg.TableRecord(
            {
                name: round(value, 4) if isinstance(value, float) else _plain(value)
                for name, value in row.items()
            }
        )
        for row in rows
    ]
    # Without rows there are no columns.
    columns = [dg.TableColumn(name, _kind(rows, name)) for name in (rows[0] if rows else {})]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def scores(values: Mapping[str, Any]) -> dg.TableMetadataValue:
    """Build a table of names and values."""
    return table([{"name": name, "value": value} for name, value in values.items()])


def picture(png: bytes, alt: str) -> dg.MarkdownMetadataValue:
    """Build a small preview of a PNG."""
    data = base64.b64encode(shrunk(png, _SIDE_PX)).decode()
    return dg.MetadataValue.md(f"![{alt}](data:image/png;base64,{data})")


def shrunk(data: bytes, side_px: int) -> bytes:
    """Return a PNG with no side longer than ``side_px``; a smaller one is returned unchanged."""
    with Image.open(io.BytesIO(data)) as image:
        if max(image.size) <= side_px:
            return data
        # A palette takes a third of the bytes; FASTOCTREE keeps colours of few pixels.
        smaller = image.convert("RGB")
        smaller.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        smaller.quantize(256, Image.Quantize.FASTOCTREE).save(stream, format="png", optimize=True)
    return stream.getvalue()


def _plain(value: Any) -> str | int | None:
    return value if isinstance(value, int | None) else str(value)


def _kind(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    numbers = all(isinstance(row[name], int | float | None) for row in rows)
    return "float" if numbers else "string"
