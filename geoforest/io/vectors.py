"""Polygons streamed to a file, in the format of its suffix."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

import numpy as np

from geoforest.errors import WriteError
from geoforest.io.features import WRITE_ERRORS, as_arrow, plain_name, stream_layer
from geoforest.io.geopackage import LAYER, write_geopackage
from geoforest.io.publication import new_file

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
    with _replaced(path) as made:
        written: list[int] = []
        stream_layer(_with_checksums(frames, written), made, driver="FlatGeobuf", layer=LAYER)
        # GDAL does not report each failure at its end.
        if _checksums_in(made) != (len(written), sum(written)):
            raise WriteError(
                f"{path}: does not read back as it was written; was the disk full for a moment?"
            )


def _with_checksums(frames: Frames, checksums: list[int]) -> Frames:
    """Yield frames, and add the checksum of each geometry to a list."""
    for frame in frames:
        checksums += map(crc32, frame.geometry.to_wkb())
        yield frame


def _checksums_in(path: Path) -> tuple[int, int]:
    """Return the number of geometries in a file, and the sum of their checksums."""
    import pyarrow
    import pyogrio

    count = total = 0
    with plain_name(path) as name, pyogrio.open_arrow(name, columns=[]) as (meta, stream):
        for batch in pyarrow.RecordBatchReader.from_stream(stream):
            geometries = batch.column(meta["geometry_name"] or "wkb_geometry").to_pylist()
            count += len(geometries)
            total += sum(map(crc32, geometries))
    return count, total


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """Yield the name of a new file, as :func:`new_file` does; its errors become WriteErrors."""
    try:
        with new_file(path) as made:
            yield made
    except (OSError, *WRITE_ERRORS) as error:
        raise WriteError(f"{path}: cannot be written ({error})") from error


FORMATS: Final[dict[str, Callable[[Frames, Path], None]]] = {
    ".gpkg": write_geopackage,
    ".parquet": _write_geoparquet,
    ".fgb": _write_flatgeobuf,
}
