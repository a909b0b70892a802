"""Features written to a file as one Arrow stream, with few frames in memory at a time."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow
import pyarrow.compute
import pyogrio

from geoforest.io.gdal import pinned_vectors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import geopandas

WRITE_ERRORS: Final = (
    pyogrio.errors.DataSourceError,
    pyogrio.errors.DataLayerError,
    pyogrio.errors.FeatureError,
)
_BATCH_ROWS = 16_384
_BATCH_BYTES = 16 << 20


@pinned_vectors()
def stream_layer(
    frames: Iterable[geopandas.GeoDataFrame],
    path: Path,
    *,
    driver: str,
    layer: str,
    geometry_type: str = "Polygon",
    **options: Any,
) -> int:
    """Write polygons through GDAL; the spatial index is built once, at the end.

    Parameters
    ----------
    frames
        At least one, all with the same columns, geometry last; they may be empty. Exceptions of
        the iterator reach the caller unchanged, an interrupt too.
    path, driver, layer, geometry_type, **options
        For ``pyogrio.write_arrow``.

    Returns
    -------
    int
        Number of polygons.
    """
    failures: list[BaseException] = []
    count = 0
    rest = iter(frames)
    first = next(rest)

    def records() -> Iterator[pyarrow.RecordBatch]:
        nonlocal count
        try:
            for batch in _even_batches(as_arrow(frame) for frame in chain([first], rest)):
                count += batch.num_rows
                yield batch
        except (Exception, KeyboardInterrupt) as error:  # GDAL would replace it by its own error
            failures.append(error)
            raise

    elsewhere: AbstractContextManager[str | None] = nullcontext()
    if "!" in str(path.absolute()):
        # pyogrio treats the part after an exclamation mark as a path inside an archive.
        elsewhere = tempfile.TemporaryDirectory()
    try:
        with warnings.catch_warnings(), elsewhere as folder:
            # Polygons of rasters without a CRS are written without one.
            warnings.filterwarnings("ignore", "'crs' was not provided")
            made = Path(folder) / f"made{path.suffix}" if folder else path
            pyogrio.write_arrow(
                pyarrow.RecordBatchReader.from_batches(as_arrow(first).schema, records()),
                made,
                layer=layer,
                driver=driver,
                geometry_name=first.geometry.name,
                geometry_type=geometry_type,
                crs=first.crs.to_wkt() if first.crs else None,
                SPATIAL_INDEX="YES",
                **options,
            )
            if made != path:
                shutil.copyfile(made, path)
            return count
    except Exception as error:  # pyogrio turns the failure of an iterator into errors of its own
        if failures:
            raise failures[0] from error
        raise


@contextmanager
def plain_name(path: Path) -> Iterator[Path]:
    """Yield the name under which pyogrio reads a file: of a copy where the name has a ``!``."""
    if "!" not in str(path.absolute()):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(shutil.copyfile(path, Path(folder) / f"copy{path.suffix}"))


def _even_batches(tables: Iterable[pyarrow.Table]) -> Iterator[pyarrow.RecordBatch]:
    """Cut a stream of features in batches that depend only on the features, not on the tables.

    Each batch is a transaction, and the number of transactions is in the bytes of the file.
    """
    pending: list[pyarrow.Table] = []
    n_rows = n_bytes = 0
    for table in tables:
        geometry = table.column(table.num_columns - 1)
        sizes = np.cumsum(pyarrow.compute.binary_length(geometry).to_numpy())
        start, before = 0, 0
        while start < len(sizes):
            full = int(np.searchsorted(sizes, before + _BATCH_BYTES - n_bytes)) + 1
            end = min(full, start + _BATCH_ROWS - n_rows, len(sizes))
            pending.append(table.slice(start, end - start))
            n_rows += end - start
            n_bytes += int(sizes[end - 1]) - before
            start, before = end, int(sizes[end - 1])
            if n_rows == _BATCH_ROWS or n_bytes >= _BATCH_BYTES:
                yield from _combined(pending)
                pending, n_rows, n_bytes = [], 0, 0
    if pending:
        yield from _combined(pending)


def _combined(tables: Sequence[pyarrow.Table]) -> list[pyarrow.RecordBatch]:
    """Combine tables of at least one row in one batch (more where its columns exceed 2 GiB)."""
    # pyarrow fails to combine a chunk of no rows whose offset is not 0, as pandas leaves them.
    filled = [batch for table in tables for batch in table.to_batches() if batch.num_rows]
    combined = pyarrow.Table.from_batches(filled).combine_chunks()
    batches: list[pyarrow.RecordBatch] = combined.to_batches()
    return batches


def as_arrow(frame: geopandas.GeoDataFrame) -> pyarrow.Table:
    """Return a frame as a table with WKB; text columns have one type in every frame of a stream.

    pandas 2 knows texts by what is in a column only: one without rows would have no type.
    """
    table = pyarrow.table(frame.to_arrow(index=False, geometry_encoding="WKB"))
    texts = pyarrow.large_string()
    for index, field in enumerate(table.schema):
        if pyarrow.types.is_null(field.type) or pyarrow.types.is_string(field.type):
            table = table.set_column(index, field.name, table.column(index).cast(texts))
    return table
