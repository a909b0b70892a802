"""Read units, such as municipalities: polygons of a vector file, grouped by a field."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import shapely

from geoforest.errors import InputError
from geoforest.io.gdal import pinned_vectors
from geoforest.io.polygon_files import polygon_layers, read_layer

if TYPE_CHECKING:
    import geopandas
    import pandas as pd

NO_UNIT: Final = "(none)"
"""Unit of features whose field has no value, or an empty text."""
_SHOWN_FIELDS = 20


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


@pinned_vectors()
def read_units(path: str | Path, by: str, *, layer: str | None = None) -> Units:
    """Read polygons; those with the same value of a field are one unit, their union.

    Parameters
    ----------
    path
        Vector file on disk, of any format that GDAL opens.
    by
        Name of the field that names the units. Features without a value, or with an empty text,
        are the unit ``(none)``.
    layer
        Name of the layer; by default the only one that has the field.

    Raises
    ------
    InputError
        When the file cannot be used, or has no such field or layer.
    """
    import pyogrio

    if "://" in str(path):
        raise InputError(f"{path}: is a URL; units are taken from a file on disk (--zones)")
    path = Path(path)
    chosen = _chosen_layer(path, by, layer)
    frame = read_layer(path, chosen, "--zones", columns=[by])
    notes = []
    # Formats that do not count their features report -1.
    others = pyogrio.read_info(path, layer=chosen)["features"] - len(frame)
    if others > 0:
        notes.append(f"{path}: {others:,} features that are no polygons are left out")
    geometry = shapely.force_2d(frame.geometry.to_numpy())
    try:
        invalid = ~shapely.is_valid(geometry)
        if invalid.any():
            notes.append(f"{path}: {int(invalid.sum()):,} polygons are not valid and were mended")
            geometry[invalid] = shapely.make_valid(
                geometry[invalid], method="structure", keep_collapsed=False
            )
        frame = frame.set_geometry(geometry, crs=frame.crs)[~shapely.is_empty(geometry)]
        if frame.empty:
            raise InputError(f"{path}: holds no polygon with an area (--zones wants polygons)")
        units = _dissolved(frame, by)
    except shapely.errors.ShapelyError as error:
        raise InputError(f"{path}: holds invalid geometries ({error})") from error
    if NO_UNIT in set(units["unit"]):
        notes.append(f"{path}: features without a value of {by} are the unit {NO_UNIT}")
    return Units(path, by, units, tuple(notes))


def _chosen_layer(path: Path, by: str, layer: str | None) -> str | None:
    import pyogrio

    layers = polygon_layers(path, "--zones")
    if layer is not None and layer not in layers:
        raise InputError(
            f"{path}: has no layer {layer!r} with geometries; it has {', '.join(layers) or 'none'}"
        )
    fields = {
        name: [str(field) for field in pyogrio.read_info(path, layer=name)["fields"]]
        for name in layers
        if layer in {None, name}
    }
    with_field = [name for name, own in fields.items() if by in own]
    if len(with_field) > 1:
        raise InputError(
            f"{path}: {len(with_field)} layers have a field {by!r}: {', '.join(with_field)}; "
            "choose with --layer"
        )
    if fields and not with_field:
        known = "; ".join(
            f"{name} has {', '.join(own[:_SHOWN_FIELDS]) or 'none'}"
            + (f" and {len(own) - _SHOWN_FIELDS} more" if len(own) > _SHOWN_FIELDS else "")
            for name, own in fields.items()
        )
        raise InputError(f"{path}: no field {by!r} (--by); {known}")
    return with_field[0] if with_field else None


def _dissolved(frame: geopandas.GeoDataFrame, by: str) -> geopandas.GeoDataFrame:
    """Merge the polygons of each value to one row; single ones keep their exact edges."""
    import geopandas

    names, geometries = [], []
    for name, own in frame.groupby(_names(frame[by]), sort=False, dropna=False):
        parts = own.geometry.to_numpy()
        names.append(str(name))
        geometries.append(parts[0] if len(parts) == 1 else shapely.union_all(parts))
    order = {
        name: place
        for place, name in enumerate(_names(frame[by].dropna().drop_duplicates().sort_values()))
    }
    units = geopandas.GeoDataFrame({"unit": names}, geometry=geometries, crs=frame.crs)
    place = units["unit"].map(lambda name: order.get(name, len(order)))
    return units.iloc[place.argsort(kind="stable")].reset_index(drop=True)


def _names(values: pd.Series) -> pd.Series:
    """Return values as texts; whole numbers that gaps made floats lose their decimal point."""
    if values.dtype.kind == "f" and (values.dropna() % 1 == 0).all():
        values = values.astype("Int64")
    return values.astype("string").fillna("").replace("", NO_UNIT).astype(object)
