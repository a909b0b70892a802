"""GeoPackages with one layer, its spatial index, and a style inside that QGIS applies.

Features are streamed, with few frames in memory at a time.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyogrio

from geoforest.errors import InputError, WriteError
from geoforest.io.features import WRITE_ERRORS, stream_layer
from geoforest.io.locks import lockable
from geoforest.io.names import FOREST_LABEL
from geoforest.io.publication import new_file
from geoforest.io.recorded import PINNED_TIME, set_aside_edited
from geoforest.io.sqlite import read_database
from geoforest.io.styles import read_style

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import geopandas

LAYER: Final = "forest_cover"

# "GPKG", and version 1.2.
_APPLICATION_ID: Final = 0x47504B47
_USER_VERSION: Final = 10200

# The table that QGIS creates.
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
    update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now'))
)
"""


def write_geopackage(
    frames: Iterable[geopandas.GeoDataFrame],
    path: str | Path,
    *,
    layer: str = LAYER,
    style_qml: str | None = None,
    description: str = "",
    geometry_type: str = "Polygon",
) -> None:
    """Write polygons with an embedded default style; identical input gives identical bytes.

    Parameters
    ----------
    frames
        Polygons, with or without a CRS. At least one frame, all with the same columns; they may be
        empty. Exceptions of the iterator reach the caller unchanged, except an OSError, which
        becomes a WriteError of this file.
    path
        File to write; an existing one is replaced in one step, and kept under another name if
        it was edited since, which a warning says.
    layer
        Name of the layer.
    style_qml
        QML of the layer's default style; by default ``forest_cover.qml``.
    description
        Description of the layer, stored in the file.
    geometry_type
        Geometry type of the layer.

    Raises
    ------
    WriteError
        When the file cannot be written. The old file, if there was one, is untouched.
    """
    path = Path(path)
    if style_qml is None:
        style_qml = read_style("forest_cover.qml")
    try:
        with new_file(path) as staged, lockable(staged) as made:
            count = _write_layer(frames, made, layer, description, geometry_type)
            with closing(sqlite3.connect(made)) as database, database:
                add_style(database, layer, style_qml)
            with closing(sqlite3.connect(made)) as database:
                _check_read_back(path, database, layer, count)
            if made != staged:
                shutil.copyfile(made, staged)
            set_aside_edited(path)
    except (OSError, sqlite3.Error, *WRITE_ERRORS) as error:
        raise WriteError(f"{path}: cannot be written ({error})") from error


def _check_read_back(path: Path, database: sqlite3.Connection, layer: str, count: int) -> None:
    """Check that all is there: GDAL does not report each failure, neither midway nor at its end."""

    def one(query: str, *values: object) -> Any:
        row = database.execute(query, values).fetchone()
        return None if row is None else row[0]

    column = one("SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", layer)
    triggers = [f"rtree_{layer}_{column}_{what}" for what in ("insert", "delete")]
    triggers += [f"trigger_{what}_feature_count_{layer}" for what in ("insert", "delete")]
    there = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    checks = {
        "pages": one("PRAGMA quick_check") == "ok",
        "kind": one("PRAGMA application_id") == _APPLICATION_ID,
        "version": one("PRAGMA user_version") == _USER_VERSION,
        "features": one(f'SELECT count(*) FROM "{layer}"') == count,
        "index": one(f'SELECT count(*) FROM "rtree_{layer}_{column}"') == count,
        "triggers": there.issuperset(triggers),
        "CRS": one(
            "SELECT count(*) FROM gpkg_geometry_columns JOIN gpkg_spatial_ref_sys USING (srs_id) "
            "WHERE table_name = ?",
            layer,
        )
        == 1,
        "extent": not count
        or one("SELECT min_x FROM gpkg_contents WHERE table_name = ?", layer) is not None,
        "number of features": one(
            "SELECT feature_count FROM gpkg_ogr_contents WHERE table_name = ?", layer
        )
        == count,
    }
    if lost := [name for name, sound in checks.items() if not sound]:
        raise WriteError(
            f"{path}: does not read back as it was written (not as they should be: "
            f"{', '.join(lost)}); was the disk full for a moment?"
        )


def layers(path: str | Path) -> list[str]:
    """List the vector layers of a GeoPackage, sorted; empty when it is another kind of file."""
    try:
        with read_database(Path(path)) as database:
            rows = database.execute(
                "SELECT table_name FROM gpkg_contents WHERE data_type = 'features'"
            )
            return sorted(name for (name,) in rows)
    except (InputError, sqlite3.Error):
        return []


def _write_layer(
    frames: Iterable[geopandas.GeoDataFrame],
    path: Path,
    layer: str,
    description: str,
    geometry_type: str,
) -> int:
    with pinned_time():
        return stream_layer(
            frames,
            path,
            driver="GPKG",
            layer=layer,
            geometry_type=geometry_type,
            # No newer feature is used, and QGIS of 2021 warns of newer versions.
            dataset_options={"VERSION": "1.2"},
            layer_options={
                "GEOMETRY_NAME": "geom",
                "IDENTIFIER": FOREST_LABEL,
                "DESCRIPTION": description,
            },
        )


@contextmanager
def pinned_time() -> Iterator[None]:
    """Make GDAL write a fixed time of change into GeoPackages, so that bytes are reproducible."""
    previous = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": PINNED_TIME})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": previous})


def add_style(
    database: sqlite3.Connection, layer: str, qml: str, *, name: str = "forest cover"
) -> None:
    """Add the default style of a layer, and the table of styles, to an open GeoPackage."""
    geometry = database.execute(
        "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", (layer,)
    ).fetchone()[0]
    database.execute(_STYLE_TABLE)
    database.execute(
        "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, "
        "f_geometry_column, styleName, styleQML, styleSLD, useAsDefault, description, owner, ui, "
        "update_time) VALUES ('', '', ?, ?, ?, ?, '', 1, "
        "'Default style of geoforest', '', NULL, ?)",
        (layer, geometry, name, qml, PINNED_TIME),
    )
    database.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change) "
        "VALUES ('layer_styles', 'attributes', 'layer_styles', '', ?)",
        (PINNED_TIME,),
    )
