"""Read units, such as municipalities: polygons of a vector file, grouped by a field."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import shapely

from geoforest.errors import InputError, did_you_mean
from geoforest.io.polygon_files import VectorFile, mended, open_vectors, polygons_in
from geoforest.io.texts import one_spelling

if TYPE_CHECKING:
    from pathlib import Path

    import geopandas
    import numpy as np
    import pandas as pd
    import pyproj
    from numpy.typing import NDArray

NO_UNIT: Final = "(none)"
"""Unit of features whose field has no value, or an empty text."""
_SHOWN_FIELDS = 20
# From here on, floats of double precision skip whole numbers.
_FLOATS_MERGE = 2**53
_NUMBERS: Final = {"fid", "ogc_fid", "$id", "@id"}


@dataclass(frozen=True)
class Units:
    """Units of a vector file.

    Attributes
    ----------
    path, by
        Path of the file, and its field that names the units.
    frame
        One row per unit, in the order of the field's values: ``unit``, a text, and geometry, a
        valid polygon or multipolygon.
    notes
        Sentences the user should read.
    """

    path: Path
    by: str
    frame: geopandas.GeoDataFrame
    notes: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Hash of everything but the map that areas by unit depend on."""
        digest = hashlib.sha256()
        for part in (self.by, self.frame.crs.to_wkt(), *self.frame["unit"]):
            digest.update(f"{len(part)} {part}".encode())
        for outline in shapely.to_wkb(self.frame.geometry.to_numpy()):
            digest.update(outline)
        return digest.hexdigest()


def asked_units(zones: str | Path | None, by: str | None) -> Units | None:
    """Read the units given by ``--zones`` and ``--by``; return None when neither is given.

    Raises
    ------
    InputError
        When :func:`read_units` raises it, or one is given without the other.
    """
    if zones is None and by is None:
        return None
    if zones is None or by is None:
        raise InputError("--zones and --by: a vector file and its field were wanted, both or none")
    return read_units(zones, by)


def read_units(path: str | Path, by: str, *, layer: str | None = None) -> Units:
    """Read polygons; those with the same value of a field are one unit, their union.

    Parameters
    ----------
    path
        Vector file on disk, of any format that GDAL opens.
    by
        Name of the field that names the units, or of the column of features' ids. Features
        without a value, or with an empty text, are the unit ``(none)``. Names that differ only in
        spaces or in how Unicode composes their letters are one.
    layer
        Name of the layer; by default the only one that has the field.

    Raises
    ------
    InputError
        When the file cannot be used, or has no such field or layer.
    """
    if "://" in str(path):
        raise InputError(f"{path}: is a URL; units are taken from a file on disk (--zones)")
    with open_vectors(path, "--zones") as source:
        source.check_layers()
        chosen, column = _chosen_layer(source, by, layer)
        frame = source.read(chosen)
        source.check_not_empty([frame])
        names = _names(source, by, source.read_column(chosen, column).iloc[frame.index])
    notes = source.notes
    geometry = shapely.force_2d(polygons_in(frame.geometry.to_numpy()))
    try:
        invalid = int((~shapely.is_valid(geometry)).sum())
        if invalid:
            notes.append(f"{path}: {invalid:,} polygons are not valid and were mended")
            geometry = mended(geometry)
        filled = ~shapely.is_empty(geometry)
        if not filled.any():
            raise InputError(f"{path}: holds no polygon with an area (--zones wants polygons)")
        if not filled.all():
            notes.append(f"{path}: {int((~filled).sum()):,} polygons without an area are left out")
        units = _dissolved(names[filled], geometry[filled], frame.crs)
    except shapely.errors.ShapelyError as error:
        raise InputError(f"{path}: holds invalid geometries ({error})") from error
    if NO_UNIT in set(units["unit"]):
        notes.append(f"{path}: features without a value of {by} are the unit {NO_UNIT}")
    return Units(source.path, by, units, tuple(notes))


def _chosen_layer(source: VectorFile, by: str, layer: str | None) -> tuple[str, str]:
    """Return the layer that has a field, and how its name is spelled there."""
    path, layers = source.path, source.layers
    if layer is not None and layer not in layers:
        raise InputError(
            f"{path}: has no layer {layer!r} with geometries; it has {', '.join(layers)}"
            + did_you_mean(layer, layers)
        )
    columns = {name: list(source.fields(name)) for name in layers if layer in {None, name}}
    ids = {name: source.fid_column(name) for name in columns}
    with_field = [
        (name, column)
        for name, own in columns.items()
        for column in {*own, ids[name]}
        if column and one_spelling(column) == one_spelling(by)
    ]
    if len(with_field) > 1:
        raise InputError(
            f"{path}: {len(with_field)} layers have a field {by!r}: "
            f"{', '.join(name for name, _ in with_field)}; choose with --layer"
        )
    if not with_field:
        known = "; ".join(
            f"{name} has {', '.join(own[:_SHOWN_FIELDS]) or 'none'}"
            + (f" and {len(own) - _SHOWN_FIELDS} more" if len(own) > _SHOWN_FIELDS else "")
            for name, own in columns.items()
        )
        every = [
            *(column for own in columns.values() for column in own),
            *filter(None, ids.values()),
        ]
        hint = did_you_mean(by, every)
        if not hint and by.casefold() in _NUMBERS:
            hint = "; features of this file have no ids of their own: a field that names them "
            hint += "was wanted"
        raise InputError(f"{path}: no field {by!r} (--by); {known}{hint}")
    return with_field[0]


def _dissolved(
    names: pd.DataFrame, geometry: NDArray[np.object_], crs: pyproj.CRS
) -> geopandas.GeoDataFrame:
    """Merge the polygons of each name to one row; single ones keep their exact edges."""
    import geopandas

    merged: dict[str, shapely.Geometry] = {}
    for name, places in names.groupby(names["unit"], sort=False).indices.items():
        parts = geometry[places]
        merged[str(name)] = parts[0] if len(parts) == 1 else shapely.union_all(parts)
    order = names.drop_duplicates("unit").sort_values("key", kind="stable")["unit"]
    units = [
        *(name for name in order if name != NO_UNIT),
        *([NO_UNIT] if NO_UNIT in merged else []),
    ]
    return geopandas.GeoDataFrame(
        {"unit": units}, geometry=[merged[name] for name in units], crs=crs
    )


def _names(source: VectorFile, by: str, values: pd.Series) -> pd.DataFrame:
    """Return the name of each feature's unit, ``unit``, and what sorts the units, ``key``.

    Whole numbers that gaps made floats lose their decimal point; texts come to one spelling.
    """
    import pandas as pd

    if values.dtype.kind == "f" and (values.dropna() % 1 == 0).all():
        if (values.dropna().abs() >= _FLOATS_MERGE).any():
            raise InputError(
                f"{source.path}: field {by!r} has ids beyond 2^53 as floating-point numbers, which "
                "do not tell neighbouring ids apart; a field of texts or whole numbers was wanted"
            )
        values = values.astype("Int64")
    texts = values.astype("string").fillna("")
    units = texts.map(one_spelling)
    changed = texts[(units != texts) & (units != "")]
    if len(changed):
        source.notes.append(_spelling_note(source.path, by, texts, units))
    keys = units if values.dtype.kind not in "iufb" else values
    made = pd.DataFrame({"unit": units.replace("", NO_UNIT).astype(object), "key": keys})
    return made.reset_index(drop=True)


def _spelling_note(path: Path, by: str, texts: pd.Series, units: pd.Series) -> str:
    spellings = texts.groupby(units).nunique()
    several = spellings[(spellings > 1) & (spellings.index != "")]
    note = (
        f"{path}: names in {by} were brought to one spelling (Unicode NFC, single spaces, none "
        "around)"
    )
    if len(several):
        note += (
            f"; {len(several):,} were written in more than one way and are one unit each, such as "
            f"{several.index[0]!r}"
        )
    return note
