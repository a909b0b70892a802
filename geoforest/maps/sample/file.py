"""Write and read samples as GeoPackages: points to label in QGIS, and the strata of the map.

Layer ``sample`` has one point at the centre of each pixel drawn, with a form for the labeller;
table ``strata`` has the size of each stratum; table ``map`` has one row: the map and its grid.
"""

from __future__ import annotations

import math
import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, Final
from xml.sax.saxutils import quoteattr

import numpy as np

from geoforest.errors import InputError, WriteError
from geoforest.io.features import WRITE_ERRORS
from geoforest.io.gdal import pinned_vectors
from geoforest.io.geopackage import add_style, pinned_time
from geoforest.io.polygon_files import without_marks
from geoforest.io.sqlite import settled
from geoforest.io.styles import read_style
from geoforest.report.language import message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import geopandas
    import pandas as pd

POINTS: Final = "sample"
STRATA: Final = "strata"
MAP: Final = "map"
NOT_INTERPRETABLE: Final = message("not interpretable")
"""Label of a point whose class the reference data do not show."""

# Writing and reading a file may change the last bits of coordinates.
_MOVED_PX = 0.01
_COLUMNS = ("sample_id", "reference", "stratum", "row", "col")


@dataclass(frozen=True)
class Stratum:
    """All pixels of a map that have one code.

    Attributes
    ----------
    code, name
        Code in the map, and its name.
    pixels
        Number of pixels.
    hectares
        True ground area.
    points
        Number of points drawn in it.
    """

    code: int
    name: str
    pixels: int
    hectares: float
    points: int


@dataclass(frozen=True)
class Origin:
    """Map that a sample was drawn from.

    Attributes
    ----------
    scene_id
        Id of the scene; of both scenes for a comparison.
    sha256
        Checksum of the raster whose values define the strata.
    threshold
        Threshold of a probability raster, 0 to 1; None for a raster of codes.
    change
        Whether the map is a comparison of two maps.
    seed
        Seed that the sample was drawn with.
    rows, cols, left, top, pixel_width, pixel_height
        Grid of the map, in units of its CRS, which is that of the points.
    """

    scene_id: str
    sha256: str
    threshold: float | None
    change: bool
    seed: int
    rows: int
    cols: int
    left: float
    top: float
    pixel_width: float
    pixel_height: float


@dataclass(frozen=True, eq=False)
class SampleFile:
    """Content of a sample file.

    Attributes
    ----------
    path
        GeoPackage that was read.
    strata, origin
        Strata of the map, and the map that the sample was drawn from.
    points
        Points in their random order, with the columns of :func:`write_sample`.
    note
        Sentence for the user when labels may be missing, otherwise empty.
    """

    path: Path
    strata: tuple[Stratum, ...]
    origin: Origin
    points: geopandas.GeoDataFrame
    note: str = ""


def write_sample(
    path: Path,
    points: geopandas.GeoDataFrame,
    strata: Sequence[Stratum],
    origin: Origin,
    classes: Sequence[str],
) -> None:
    """Write points with a labelling form, and the strata and map that an estimate needs.

    Parameters
    ----------
    path
        GeoPackage to write.
    points
        Centres of the pixels, with columns ``sample_id`` from 1, empty ``reference``,
        ``confidence`` and ``note``, ``stratum``, ``stratum_name``, ``row`` and ``col``.
    strata, origin
        See :class:`Stratum` and :class:`Origin`.
    classes
        Names that the form offers as reference.

    Raises
    ------
    WriteError
        When the file cannot be written.
    """
    import pandas as pd
    import pyogrio

    tables = {
        STRATA: pd.DataFrame([asdict(each) for each in strata]),
        MAP: pd.DataFrame([asdict(origin)]).astype({"threshold": "float64"}),
    }
    try:
        # In a temporary folder, because pyogrio reads "!" in a path as the border of an archive.
        with tempfile.TemporaryDirectory() as folder, pinned_time(), pinned_vectors():
            made = Path(folder) / "made.gpkg"
            common: dict[str, Any] = {"driver": "GPKG", "dataset_options": {"VERSION": "1.2"}}
            pyogrio.write_dataframe(
                points, made, layer=POINTS, layer_options={"GEOMETRY_NAME": "geom"}, **common
            )
            for name, table in tables.items():
                pyogrio.write_dataframe(table, made, layer=name, driver="GPKG")
            with closing(sqlite3.connect(made)) as database, database:
                add_style(database, POINTS, sample_style(classes, origin), name="sample")
            shutil.copyfile(made, path)
        if len(read_sample(path).points) != len(points):
            raise WriteError(f"{path}: does not read back as it was written")
    except (OSError, InputError, sqlite3.Error, *WRITE_ERRORS) as error:
        raise WriteError(f"{path}: cannot be written ({error})") from error


def read_sample(path: str | Path) -> SampleFile:
    """Read a sample, labelled or not, and check that only its labels have changed.

    Raises
    ------
    InputError
        When the file is not a sample of geoforest, or points were moved, added, doubled or lost.
    """
    path = Path(path)
    points, strata_table, map_table, note = _tables(path)
    strata = tuple(Stratum(**row) for row in _rows(path, STRATA, strata_table, Stratum))
    origins = [Origin(**row) for row in _rows(path, MAP, map_table, Origin)]
    _check_strata(path, strata, origins)
    _check_points(path, points, strata, origins[0])
    points = points.sort_values("sample_id", ignore_index=True)
    return SampleFile(path, strata, origins[0], points, note)


@pinned_vectors()
def _tables(path: Path) -> tuple[geopandas.GeoDataFrame, pd.DataFrame, pd.DataFrame, str]:
    import geopandas
    import pyogrio

    if path.is_dir():
        raise InputError(f"{path}: is a folder; the GeoPackage of a labelled sample was wanted")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with settled(path) as whole, without_marks(whole.path) as plain:
            note = whole.note
            present = [name for name, _ in pyogrio.list_layers(plain)]
            missing = [name for name in (POINTS, STRATA, MAP) if name not in present]
            if not missing:
                points = geopandas.read_file(plain, layer=POINTS)
                others = [pyogrio.read_dataframe(plain, layer=name) for name in (STRATA, MAP)]
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise InputError(f"{path}: not a file that GDAL can open ({error})") from error
    if missing:
        raise InputError(
            f"{path}: has no table {missing[0]}; the GeoPackage that geoforest drew the sample "
            "into was wanted, labelled"
        )
    if lost := [name for name in _COLUMNS if name not in points]:
        raise InputError(f"{path}: its layer {POINTS} has no column {lost[0]}, which was wanted")
    return points, others[0], others[1], note


def _rows(path: Path, name: str, table: pd.DataFrame, kind: type) -> list[dict[str, Any]]:
    """Convert rows to dictionaries of the field types of a dataclass."""
    casts: dict[str, Callable[[Any], Any]] = {
        "int": int,
        "float": float,
        "str": str,
        "bool": bool,
        "float | None": _float_or_none,
    }
    try:
        return [
            {field.name: casts[str(field.type)](row[field.name]) for field in fields(kind)}
            for row in table.to_dict("records")
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise _altered(path, name, error) from error


def _float_or_none(value: Any) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def _altered(path: Path, name: str, what: object) -> InputError:
    return InputError(f"{path}: its table {name} is not as geoforest wrote it ({what})")


def _check_strata(path: Path, strata: Sequence[Stratum], origins: Sequence[Origin]) -> None:
    if len(origins) != 1:
        raise _altered(path, MAP, f"{len(origins)} rows, one was wanted")
    if min(origins[0].pixel_width, origins[0].pixel_height) <= 0:
        raise _altered(path, MAP, "pixels without a size")
    if not strata or len({each.code for each in strata}) != len(strata):
        raise _altered(path, STRATA, "one row for each code was wanted")
    for each in strata:
        size = each.pixels > 0 and math.isfinite(each.hectares) and each.hectares > 0
        if not size:
            raise _altered(path, STRATA, f"{each.name}: no size")


def _check_points(
    path: Path, points: geopandas.GeoDataFrame, strata: Sequence[Stratum], origin: Origin
) -> None:
    for name in ("sample_id", "stratum", "row", "col"):
        if points[name].isna().any() or points[name].dtype.kind not in "iuf":
            raise InputError(f"{path}: a point has no {name}; were points added to the sample?")
    repeated = points["sample_id"][points["sample_id"].duplicated()]
    if not repeated.empty:
        raise InputError(f"{path}: sample_id {repeated.iloc[0]:g} is there twice; once was wanted")
    for each in strata:
        found = int((points["stratum"] == each.code).sum())
        if found != each.points:
            raise InputError(
                f"{path}: {found} points of stratum {each.name}, {each.points} were drawn; label a "
                f"point that cannot be judged as {NOT_INTERPRETABLE!r}, and leave it there"
            )
    total = sum(each.points for each in strata)
    if len(points) != total:
        raise InputError(f"{path}: {len(points)} points, {total} were drawn")
    _check_places(path, points, origin)


def _check_places(path: Path, points: geopandas.GeoDataFrame, origin: Origin) -> None:
    empty = points.geometry.isna() | points.geometry.is_empty
    if empty.any() or (points.geometry.geom_type != "Point").any():
        raise InputError(f"{path}: a sample of points was wanted, and one has no place")
    col = (points.geometry.x.to_numpy() - origin.left) / origin.pixel_width
    row = (origin.top - points.geometry.y.to_numpy()) / origin.pixel_height
    inside = (row > 0) & (row < origin.rows) & (col > 0) & (col < origin.cols)
    if not inside.all():
        first = int(points["sample_id"].to_numpy()[~inside][0])
        raise InputError(f"{path}: sample_id {first} lies outside the map {origin.scene_id}")
    away = np.hypot(row - points["row"] - 0.5, col - points["col"] - 0.5)
    if not (away <= _MOVED_PX).all():
        place = int(np.argmax(away))
        raise InputError(
            f"{path}: sample_id {int(points['sample_id'].iloc[place])} was moved by "
            f"{away.iloc[place]:.3g} pixels; points are wanted where they were drawn"
        )


def sample_style(classes: Sequence[str], origin: Origin) -> str:
    """Return the QML style of the points, with their labelling form."""
    template = read_style("sample.qml")
    choices = "".join(
        f'<Option type="Map"><Option name={quoteattr(name)} type="QString" '
        f"value={quoteattr(name)}/></Option>"
        for name in (*classes, NOT_INTERPRETABLE)
    )
    return Template(template).substitute(classes=choices, pixel=repr(origin.pixel_width))
