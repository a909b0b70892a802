"""A ground with known forest, and samples of its maps that are labelled by the truth."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import geopandas
import numpy as np
import shapely

GROUND = {"epsg": 32720, "left": 500_000, "top": 9_700_000, "shape": (120, 150)}
FOREST = shapely.box(-63.0, -2.7220, -62.9955, -2.7125)
CLEARED = shapely.box(-62.9990, -2.7190, -62.9970, -2.7160)
LATER = datetime(2024, 9, 1, 14, tzinfo=UTC)
CLOUD = shapely.box(-62.9930, -2.7150, -62.9910, -2.7135)


def sql(path: Path, statement: str, rows: list[tuple] | None = None) -> None:
    """Edit a GeoPackage as a program could that knows nothing of geometry."""
    with closing(sqlite3.connect(path)) as database, database:
        triggers = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in triggers.fetchall():
            database.execute(f'DROP TRIGGER "{name}"')
        database.executemany(statement, [()] if rows is None else rows)


def label(path: Path, truth: np.ndarray, words: dict[int, str] | None = None) -> None:
    """Label all points by the truth."""
    words = words or {0: "other", 1: "forest"}
    points = geopandas.read_file(path, layer="sample")
    labels = [words[code] for code in truth[points["row"], points["col"]].tolist()]
    rows = list(zip(labels, points["sample_id"].tolist(), strict=True))
    sql(path, "UPDATE sample SET reference = ? WHERE sample_id = ?", rows)
