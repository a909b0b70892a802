"""Polygons read from any vector file that GDAL opens, and moved to the CRS of a raster."""

from __future__ import annotations

import re
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import shapely

from geoforest.arrays.polygons.reproject import surroundings
from geoforest.errors import InputError
from geoforest.io.gdal import pinned_vectors
from geoforest.io.sqlite import settled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import geopandas
    import pandas as pd
    import pyproj
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

_DENSIFY_PX = 50
_POLYGONS: Final = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)
_DEGREES: Final = "EPSG:4326"
# Half the Earth more than from -180 to 180, for files that count from 0 or beyond 180.
_MOST_LONGITUDE, _MOST_LATITUDE = 360.001, 90.001
# GDAL turns every byte into one letter, and pyogrio does not guess.
_BYTES: Final = "ISO-8859-1"


@dataclass(frozen=True)
class Outline:
    """The polygons of a vector file, of all its layers.

    Attributes
    ----------
    path
        Path of the file.
    polygons
        Valid polygons and multipolygons in one CRS.
    content
        The CRS and geometries as the file has them, in bytes: what a hash depends on.
    notes
        Sentences the user should read.
    """

    path: Path
    polygons: geopandas.GeoSeries
    content: bytes
    notes: tuple[str, ...]

    def clipped(self, box: BaseGeometry, crs: Any, n_px: int) -> BaseGeometry | None:
        """Move polygons to a CRS, merge them and clip them to a box there.

        Parameters
        ----------
        box, crs
            The box and its CRS.
        n_px
            Pixels along its longer side: edges are densified to follow the CRS.

        Returns
        -------
        shapely geometry or None
            None where they do not meet the box.
        """
        found = shapely.intersection(self.merged(box, crs, n_px), box)
        return found if found.area else None

    def merged(self, box: BaseGeometry, crs: Any, n_px: int) -> BaseGeometry:
        """Move polygons to a CRS, at least those near a box there, and merge them."""
        near = in_crs(self.polygons, box, crs, n_px)
        return shapely.union_all(mended(polygons_in(near.to_numpy())))


def read_outline(
    path: str | Path,
    option: str = "--aoi",
    *,
    near: Sequence[tuple[BaseGeometry, Any]] = (),
) -> Outline:
    """Read the polygons of all layers of a vector file.

    Parameters
    ----------
    path, option
        See :func:`open_vectors`.
    near
        Boxes that the polygons should touch, each with its CRS, for messages.

    Raises
    ------
    InputError
        When it is not a vector file, or has no CRS or no polygon, or holds degrees that are none.
    """
    import geopandas
    import pandas as pd

    with open_vectors(path, option) as source:
        source.near = near
        source.check_layers()
        frames = [frame for layer in source.layers if len(frame := source.read(layer))]
        used = [layer for layer in source.layers if layer in source.with_polygons]
        if len(used) > 1:
            source.notes.append(
                f"{source.path}: the polygons of all its {len(used)} layers are taken: "
                f"{', '.join(used)}"
            )
        source.check_not_empty(frames)
        content = b"".join(
            frame.crs.to_wkt().encode() + b"".join(frame.geometry.to_wkb()) for frame in frames
        )
        outlines = [polygons_in(frame.geometry.to_numpy()) for frame in frames]
        if any(not shapely.is_valid(one).all() for one in outlines):
            content += b"mended by structure"
        crs = frames[0].crs
        mends = (
            geopandas.GeoSeries(mended(one), crs=frame.crs)
            for one, frame in zip(outlines, frames, strict=True)
        )
        moved = [one if one.crs == crs else one.to_crs(crs) for one in mends]
        polygons = pd.concat(moved, ignore_index=True)
        return Outline(source.path, polygons[~polygons.is_empty], content, tuple(source.notes))


@dataclass(eq=False)
class VectorFile:
    """A vector file that is open for reading.

    Attributes
    ----------
    path, option
        Path as the user gave it, and the option it was given with, for messages.
    source
        Path that GDAL reads.
    notes
        Sentences the user should read; reading adds some.
    layers
        Names of the layers that have geometries.
    with_polygons
        Layers in which polygons were found.
    near
        Boxes that the polygons should touch, each with its CRS, for messages.
    """

    path: Path
    option: str
    source: Path
    notes: list[str] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)
    with_polygons: list[str] = field(default_factory=list)
    near: Sequence[tuple[BaseGeometry, Any]] = ()
    _told: dict[str, dict[str, Any]] = field(default_factory=dict)

    def fields(self, layer: str) -> dict[str, str]:
        """Return the fields of a layer by their names, with the name that GDAL reads them by."""
        from geoforest.io.texts import decoded_name

        info = self._info(layer)
        found = [str(name) for name in info["fields"]]
        return {decoded_name(name) if self._in_bytes(layer) else name: name for name in found}

    def fid_column(self, layer: str) -> str:
        """Return the name of the column with the ids of features; empty where there is none."""
        return str(self._info(layer)["fid_column"] or "")

    def read(self, layer: str) -> geopandas.GeoDataFrame:
        """Read the polygons of a layer, those inside collections too; others are left out.

        Returns
        -------
        geopandas.GeoDataFrame
            Geometries as they are in the file; the index is the number of the feature.

        Raises
        ------
        InputError
            When the layer cannot be read, or has polygons without a CRS.
        """
        import geopandas
        import pyogrio

        with self._reading():
            frame = pyogrio.read_dataframe(self.source, layer=layer, columns=[])
            if not isinstance(frame, geopandas.GeoDataFrame):
                return geopandas.GeoDataFrame(geometry=[])
            filled = ~shapely.is_empty(polygons_in(frame.geometry.to_numpy()))
        if others := int((~filled).sum()):
            self.notes.append(f"{self.path}: {others:,} features that are no polygons are left out")
        polygons = frame[filled]
        if polygons.empty:
            return polygons
        self.with_polygons.append(layer)
        if polygons.crs is None:
            raise InputError(
                f"{self.path}: has no geometries with a CRS ({self.option} wants polygons); their "
                f"bounds are {_shown(polygons.total_bounds)}, and nothing says in which CRS"
            )
        if not _are_degrees(polygons.total_bounds, polygons.crs):
            first = _shown(shapely.get_coordinates(polygons.geometry.to_numpy())[0])
            where = where_they_are(polygons.geometry, self.near, "the scene")
            raise InputError(
                f"{self.path}: coordinates such as {first} are no degrees, and its CRS is "
                f"{_named(polygons.crs)} (that of a GeoJSON that states none); {where}; a file "
                f"that states their CRS was wanted ({self.option})"
            )
        return polygons

    def read_column(self, layer: str, name: str) -> pd.Series:
        """Read a field of all features of a layer: whole numbers exactly, texts in their encoding.

        Parameters
        ----------
        layer, name
            Name of the layer, and of one of its :meth:`fields`, or its :meth:`fid_column`.
        """
        import pandas as pd
        import pyogrio

        from geoforest.io.texts import decoded_column

        stored = self.fields(layer).get(name)
        options: dict[str, Any] = {"layer": layer, "read_geometry": False}
        with self._reading():
            if stored is None:
                frame = pyogrio.read_dataframe(
                    self.source, columns=[], fid_as_index=True, **options
                )
                return pd.Series(frame.index.to_numpy())
            if self._in_bytes(layer):
                options["encoding"] = _BYTES
            frame = pyogrio.read_dataframe(self.source, columns=[stored], **options)
        values: pd.Series = frame[stored]
        info = self._info(layer)
        kind = dict(zip(info["fields"], info["dtypes"], strict=True))[stored]
        if values.dtype.kind == "f" and kind.startswith(("int", "uint")):
            return self._whole_numbers(layer, stored)
        if self._in_bytes(layer) and pd.api.types.is_string_dtype(values.dtype):
            declared = info["encoding"] == "UTF-8"
            as_declared = self._as_declared(layer, stored) if declared else None
            return decoded_column(
                self.path, name, values, as_declared, self.notes, declared=declared
            )
        return values

    def _whole_numbers(self, layer: str, stored: str) -> pd.Series:
        """Read a field of whole numbers with gaps, which pandas would make floats."""
        import pandas as pd
        import pyogrio

        options: dict[str, Any] = {"encoding": _BYTES} if self._in_bytes(layer) else {}
        with self._reading():
            _, table = pyogrio.read_arrow(
                self.source, layer=layer, columns=[stored], read_geometry=False, **options
            )
        return pd.Series(pd.array(table.column(stored).to_pylist(), dtype="Int64"))

    def _as_declared(self, layer: str, stored: str) -> list[Any] | None:
        """Read texts in the encoding that the file declares; None when they are not in it."""
        import pyogrio

        names = [str(one) for one in self._info(layer)["fields"]]
        try:
            declared = [str(one) for one in pyogrio.read_info(self.source, layer=layer)["fields"]]
            name = declared[names.index(stored)]
            frame = pyogrio.read_dataframe(
                self.source, layer=layer, columns=[name], read_geometry=False
            )
        except UnicodeDecodeError:
            return None
        texts: list[Any] = frame[name].to_list()
        return texts

    def check_layers(self) -> None:
        """Raise InputError when no layer has geometries."""
        if not self.layers:
            raise InputError(
                f"{self.path}: has no geometries with a CRS ({self.option} wants polygons)"
            )

    def check_not_empty(self, frames: Iterable[geopandas.GeoDataFrame]) -> None:
        """Raise InputError when no polygon was found."""
        if all(frame.empty for frame in frames):
            raise InputError(f"{self.path}: holds no polygon ({self.option} wants polygons)")

    def _in_bytes(self, layer: str) -> bool:
        """Return whether texts are read as bytes, since their stated encoding may be wrong."""
        info = self._info(layer)
        return bool(info["driver"] == "ESRI Shapefile" or info["encoding"] != "UTF-8")

    def _info(self, layer: str) -> dict[str, Any]:
        import pyogrio

        if layer not in self._told:
            with self._reading():
                told = pyogrio.read_info(self.source, layer=layer)
                if told["driver"] == "ESRI Shapefile":
                    named = pyogrio.read_info(self.source, layer=layer, encoding=_BYTES)
                    told = {**told, "fields": named["fields"]}
            self._told[layer] = told
        return self._told[layer]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Convert the errors of GDAL and of geometries."""
        import pyogrio

        try:
            with pinned_vectors():
                yield
        except UnicodeDecodeError as error:
            raise InputError(f"{self.path}: its texts are not UTF-8 ({error})") from error
        except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
            raise _unreadable(self.path, error) from error
        except shapely.errors.ShapelyError as error:
            raise InputError(
                f"{self.path}: holds geometries that cannot be read ({error}); polygons were "
                f"wanted ({self.option})"
            ) from error
        except NotImplementedError as error:
            raise InputError(
                f"{self.path}: holds curves inside a collection; polygons with straight edges were "
                "wanted (ogr2ogr -nlt CONVERT_TO_LINEAR)"
            ) from error
        except ValueError as error:
            raise _unreadable(self.path, error) from error


@contextmanager
def open_vectors(path: str | Path, option: str) -> Iterator[VectorFile]:
    """Open a vector file of any format that GDAL reads.

    Parameters
    ----------
    path
        Path on disk.
    option
        Option with which the user gave the file, for messages.

    Raises
    ------
    InputError
        When it is not a vector file.
    """
    import pyogrio

    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file ({option})")
    with settled(path) as plain, without_marks(plain.path) as source, pinned_vectors():
        try:
            layers = [str(name) for name, kind in pyogrio.list_layers(source) if kind is not None]
        except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError) as error:
            raise _unreadable(path, error) from error
        yield VectorFile(path, option, source, [plain.note] if plain.note else [], layers)


@contextmanager
def without_marks(path: Path) -> Iterator[Path]:
    """Give a file a path without the marks that pyogrio takes for those of archives and URLs.

    They are exclamation marks and, in its name, semicolons.
    """
    if "!" not in str(path.absolute()) and ";" not in path.name:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="geoforest-") as folder:
        plain = Path(folder) / re.sub("[!;]", "_", path.name)
        for one in path.absolute().parent.iterdir():
            if one.name.startswith(path.stem):
                (Path(folder) / re.sub("[!;]", "_", one.name)).symlink_to(one)
        yield plain


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: not a vector file that GDAL can open ({error})")


def polygons_in(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """Return the polygons of each geometry: itself, or those inside a collection, or an empty one.

    Parameters
    ----------
    shapes
        Geometries; None is an empty one.
    """
    found = np.array(shapes, np.object_)
    others = ~np.isin(shapely.get_type_id(found), _POLYGONS)
    for place in np.flatnonzero(others).tolist():
        found[place] = shapely.MultiPolygon(list(_polygons_of(found[place])))
    return found


def _polygons_of(shape: BaseGeometry | None) -> Iterator[BaseGeometry]:
    """Yield the polygons of a geometry, however deep collections are nested."""
    waiting = [] if shape is None else [shape]
    while waiting:
        one = waiting.pop()
        if one.geom_type in {"GeometryCollection", "MultiPolygon"}:
            waiting += shapely.get_parts(one).tolist()
        elif one.geom_type == "Polygon" and not one.is_empty:
            yield one


def mended(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """Return valid polygons; ground that several parts of one geometry cover stays covered."""
    shapes = np.array(shapes, np.object_)
    bent = ~shapely.is_valid(shapes)
    shapes[bent] = shapely.make_valid(shapes[bent], method="structure", keep_collapsed=False)
    return shapes


def in_crs(
    polygons: geopandas.GeoSeries, box: BaseGeometry, crs: Any, n_px: int
) -> geopandas.GeoSeries:
    """Move polygons to a CRS, without parts far from a box there.

    Most projections cannot hold polygons of half the world.
    """
    if polygons.crs == crs:
        return polygons
    around = surroundings(box, crs, polygons.crs)
    if around is None:
        return polygons.to_crs(crs)
    near = polygons.intersection(shapely.box(*around))
    # A straight edge in one CRS is a curve in another: a vertex every few dozen pixels follows it.
    left, bottom, right, top = around
    step = max(right - left, top - bottom) / (n_px / _DENSIFY_PX + 64)
    return near.segmentize(step).to_crs(crs)


def where_they_are(
    polygons: geopandas.GeoSeries, boxes: Iterable[tuple[BaseGeometry, Any]], what: str
) -> str:
    """Tell the bounds and CRS of polygons, and whether another reading of them meets a box.

    Parameters
    ----------
    polygons
        Polygons with a CRS, beside all boxes.
    boxes
        Boxes that were to be touched, each with its CRS.
    what
        Name of the boxes, such as "the scene".

    Returns
    -------
    str
        Such as ``"its bounds are (-10, -63, -9, -62) in EPSG:4326; with x and y swapped it would
        touch the scene"``.
    """
    own = shapely.bounds(polygons.to_numpy())
    told = f"its bounds are {_shown(polygons.total_bounds)} in {_named(polygons.crs)}"
    for box, crs in boxes:
        for reading, bounds, there in _readings(own, polygons.crs, crs):
            around = surroundings(box, crs, there)
            if around is not None and _meet(bounds, around):
                return f"{told}; {reading} it would touch {what}"
    return told


def _readings(
    own: NDArray[np.float64], crs: pyproj.CRS, other: Any
) -> Iterator[tuple[str, NDArray[np.float64], Any]]:
    """Yield what coordinates could mean besides what their file says: words, bounds and CRS."""
    swapped, turn = own[:, [1, 0, 3, 2]], np.array([360, 0, 360, 0])
    yield "with x and y swapped", swapped, crs
    if crs.is_geographic:
        yield "with 360 degrees less", own - turn, crs
        yield "with 360 degrees more", own + turn, crs
    else:
        yield f"taken as longitude and latitude, {_DEGREES},", own, _DEGREES
        yield f"taken as latitude and longitude, {_DEGREES},", swapped, _DEGREES
    if crs != other:
        yield f"taken as {_named(other)}", own, other
        yield f"taken as {_named(other)} with x and y swapped", swapped, other


def _meet(bounds: NDArray[np.float64], around: tuple[float, ...]) -> bool:
    left, bottom, right, top = around
    beside = (
        (bounds[:, 0] > right)
        | (bounds[:, 2] < left)
        | (bounds[:, 1] > top)
        | (bounds[:, 3] < bottom)
    )
    return bool((~beside).any())


def _are_degrees(bounds: NDArray[np.float64], crs: pyproj.CRS) -> bool:
    if not crs.is_geographic or crs.axis_info[0].unit_name != "degree":
        return True
    left, bottom, right, top = bounds
    return bool(
        max(abs(left), abs(right)) <= _MOST_LONGITUDE and max(-bottom, top) <= _MOST_LATITUDE
    )


def _shown(numbers: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(float(one), 3) for one in numbers)


def _named(crs: Any) -> str:
    import pyproj

    return str(pyproj.CRS.from_user_input(crs).to_string())[:40]
