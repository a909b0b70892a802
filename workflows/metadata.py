"""What Dagster shows of a materialisation: tables and pictures."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from geoforest.report.picture import shrunk

# They are kept in Dagster's database, one for each materialisation.
_SIDE_PX = 720


def table(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Table of rows that have the same names; other values than numbers become text."""
    records = [
        dg.TableRecord(
            {
                name: round(value, 4) if isinstance(value, float) else _plain(value)
                for name, value in row.items()
            }
        )
        for row in rows
    ]
    # Of columns without a value, and of no rows, nothing can be told.
    columns = [dg.TableColumn(name, _kind(rows, name)) for name in (rows[0] if rows else {})]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def scores(values: Mapping[str, Any]) -> dg.TableMetadataValue:
    """Table of names and values."""
    return table([{"name": name, "value": value} for name, value in values.items()])


def picture(png: bytes, alt: str) -> dg.MarkdownMetadataValue:
    """Preview of a picture, made small."""
    data = base64.b64encode(shrunk(png, _SIDE_PX)).decode()
    return dg.MetadataValue.md(f"![{alt}](data:image/png;base64,{data})")


def _plain(value: Any) -> str | int | None:
    return value if isinstance(value, int | None) else str(value)


def _kind(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    numbers = all(isinstance(row[name], int | float | None) for row in rows)
    return "float" if numbers else "string"
