"""Polygons streamed to a file, in the format of its suffix."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from geoforest.errors import WriteError
from geoforest.io.features import WRITE_ERRORS, as_arrow, stream_layer
from geoforest.io.geopackage import LAYER, write_geopackage

if TYPE_CHECKING:
    import geopandas
    import pyarrow

Frames = Iterable["geopandas.GeoDataFrame"]

_GROUP_ROWS = 16_384
_GROUP_VERTICES = 1_000_000


def write_polygons(frames: Frames, path: str | Path) -> None:
    """Write polygons as GeoPackage (.gpkg), GeoParquet (.parquet) or FlatGeobuf (.fgb).

    Parameters
    ----------
    frames
        See :func:`geoforest.io.geopackage.write_geopackage`.
    path
        File to write; an existing one is replaced in one step.

    Raises
    ------
    WriteError
        When the file cannot be written. The old file, if there was one, is untouched.
    """
    path = Path(path)
    FORMATS[path.suffix.lower()](frames, path)


def _write_geoparquet(frames: Frames, path: Path) -> None:
    """Write GeoParquet 1.1: WKB, and a column of boxes for readers of a region."""
    import pyarrow
    import pyarrow.parquet

    with _replaced(path) as partial:
        groups = _groups(frames)
        first = next(groups)
        table, _ = _with_boxes(first)
        box = np.array([np.inf, np.inf, -np.inf, -np.inf])
        schema = table.schema.remove_metadata()
        with pyarrow.parquet.ParquetWriter(partial, schema, compression="zstd") as writer:
            for frame in chain([first], groups):
                table, bounds = _with_boxes(frame)
                writer.write_table(table.cast(schema))
                if len(bounds):
                    box[:2] = np.minimum(box[:2], bounds[:, :2].min(axis=0))
                    box[2:] = np.maximum(box[2:], bounds[:, 2:].max(axis=0))
            writer.add_key_value_metadata({"geo": json.dumps(_geo(first, box))})


def _geo(frame: geopandas.GeoDataFrame, box: Any) -> dict[str, Any]:
    column = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        # None means unknown; a missing key would mean WGS 84.
        "crs": frame.crs.to_json_dict() if frame.crs else None,
        "orientation": "counterclockwise",
        "edges": "planar",
        "covering": {"bbox": {side: ["bbox", side] for side in ("xmin", "ymin", "xmax", "ymax")}},
    }
    if np.isfinite(box).all():
        column["bbox"] = box.tolist()
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


def _with_boxes(frame: geopandas.GeoDataFrame) -> tuple[pyarrow.Table, Any]:
    import pyarrow
    import shapely

    bounds = shapely.bounds(frame.geometry.to_numpy()).reshape(-1, 4)
    sides = [pyarrow.array(side) for side in bounds.T]
    boxes = pyarrow.StructArray.from_arrays(sides, ["xmin", "ymin", "xmax", "ymax"])
    table = as_arrow(frame)
    plain = table.column("geometry").cast(pyarrow.binary())
    table = table.set_column(table.num_columns - 1, "geometry", plain)
    return table.append_column("bbox", boxes), bounds


def _groups(frames: Frames) -> Iterator[geopandas.GeoDataFrame]:
    """Concatenate small frames: many row groups of few rows are slow to read."""
    import pandas as pd
    import shapely

    pending: list[geopandas.GeoDataFrame] = []
    n_rows = n_vertices = 0
    for frame in frames:
        pending.append(frame)
        n_rows += len(frame)
        n_vertices += int(shapely.get_num_coordinates(frame.geometry.to_numpy()).sum())
        if n_rows >= _GROUP_ROWS or n_vertices >= _GROUP_VERTICES:
            yield pd.concat(pending, ignore_index=True)
            pending, n_rows, n_vertices = [], 0, 0
    if pending:
        yield pd.concat(pending, ignore_index=True)


def _write_flatgeobuf(frames: Frames, path: Path) -> None:
    with _replaced(path) as partial:
        stream_layer(frames, partial, driver="FlatGeobuf", layer=LAYER)


class _replaced:  # noqa: N801 - a context manager
    """Context manager of a partial file that replaces its target if all went well."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.stem}.partial-{os.getpid()}{path.suffix}")

    def __enter__(self) -> Path:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(f"{self._path}: cannot be written ({error})") from error
        return self._partial

    def __exit__(self, kind: Any, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                with self._partial.open("rb") as handle:
                    os.fsync(handle.fileno())
                self._partial.replace(self._path)
        except OSError as failure:
            raise WriteError(f"{self._path}: cannot be written ({failure})") from failure
        finally:
            with suppress(OSError):
                self._partial.unlink(missing_ok=True)
        if isinstance(error, (OSError, *WRITE_ERRORS)):
            raise WriteError(f"{self._path}: cannot be written ({error})") from error


FORMATS: Final[dict[str, Callable[[Frames, Path], None]]] = {
    ".gpkg": write_geopackage,
    ".parquet": _write_geoparquet,
    ".fgb": _write_flatgeobuf,
}
