"""GeoPackage with one layer, its spatial index, and a style that QGIS finds inside."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyogrio

from geoforest.errors import OutputError

if TYPE_CHECKING:
    import geopandas

LAYER: Final = "forest_cover"
# A file's bytes must not depend on when it was written.
_PINNED_TIME = "2000-01-01T00:00:00.000Z"

_STYLE_TABLE = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    f_table_catalog TEXT(256),
    f_table_schema TEXT(256),
    f_table_name TEXT(256),
    f_geometry_column TEXT(256),
    styleName TEXT(30),
    styleQML TEXT,
    styleSLD TEXT,
    useAsDefault BOOLEAN,
    description TEXT,
    owner TEXT(30),
    ui TEXT(30),
    update_time DATETIME DEFAULT CURRENT_TIMESTAMP
)
"""


def write_geopackage(frame: geopandas.GeoDataFrame, path: str | Path, layer: str = LAYER) -> None:
    """Write polygons with an embedded default style; identical input gives identical bytes.

    Parameters
    ----------
    frame
        Polygons with a CRS; may be empty.
    path
        Target; an existing file is replaced in one step.
    layer
        Name of the layer.

    Raises
    ------
    OutputError
        When the folder cannot be written to.
    """
    path = Path(path)
    partial = path.with_name(f".{path.stem}.partial-{os.getpid()}.gpkg")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(frame, partial, layer)
        with partial.open("rb") as handle:
            os.fsync(handle.fileno())
        partial.replace(path)
    except (OSError, pyogrio.errors.DataSourceError) as error:
        raise OutputError(f"{path}: cannot be written ({error})") from error
    finally:
        for left_over in (partial, Path(f"{partial}-journal"), Path(f"{partial}-wal")):
            left_over.unlink(missing_ok=True)


def _write(frame: geopandas.GeoDataFrame, path: Path, layer: str) -> None:
    previous = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _PINNED_TIME})
    try:
        pyogrio.write_dataframe(
            frame,
            path,
            layer=layer,
            driver="GPKG",
            geometry_type="Polygon",
            SPATIAL_INDEX="YES",
            layer_metadata={"IDENTIFIER": "forest cover (model)"},
        )
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": previous})
    with closing(sqlite3.connect(path)) as database, database:
        _add_style(database, layer)


def _add_style(database: sqlite3.Connection, layer: str) -> None:
    qml = (files("geoforest") / "styles" / "forest_cover.qml").read_text(encoding="utf-8")
    geometry = database.execute(
        "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", (layer,)
    ).fetchone()[0]
    database.execute(_STYLE_TABLE)
    database.execute(
        "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, "
        "f_geometry_column, styleName, styleQML, styleSLD, useAsDefault, description, owner, ui, "
        "update_time) VALUES ('', '', ?, ?, 'forest cover', ?, '', 1, "
        "'Default style of geoforest', '', NULL, ?)",
        (layer, geometry, qml, _PINNED_TIME),
    )
    database.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change) "
        "VALUES ('layer_styles', 'attributes', 'layer_styles', '', ?)",
        (_PINNED_TIME,),
    )
