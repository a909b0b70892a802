"""Make one tile: read its maps, fuse them, and write three rasters to the folder of the tile."""

from __future__ import annotations

import errno
import shutil
import uuid
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from rasterio.errors import RasterioIOError
from rasterio.features import geometry_mask

from geoforest._version import __version__
from geoforest.arrays.area import PixelTable
from geoforest.arrays.grid import Window
from geoforest.arrays.stitch import mask_from_probability
from geoforest.errors import ReadError, WriteError
from geoforest.io.cog import CogWriter, CountWriter, MaskWriter, ProbabilityWriter
from geoforest.io.gdal import pinned
from geoforest.io.names import COUNT_NAME, MASK_NAME, PROBABILITY_NAME
from geoforest.io.raster import open_raster
from geoforest.io.recorded import is_recorded, recorded_files
from geoforest.io.remote import network_options
from geoforest.io.storage import flush, is_unchanged, read_json, sealed, write_json
from geoforest.maps.mosaic.across import read_across
from geoforest.maps.mosaic.cells import CELLS_NAME, CellSums
from geoforest.maps.mosaic.fuse import fuse
from geoforest.maps.mosaic.plan import TileJob, piece_of
from geoforest.scenes.read import GDAL_OPTIONS
from geoforest.types import FOREST, NO_OBSERVATION, OTHER, StoredProbability

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import rasterio
    from numpy.typing import NDArray

    from geoforest.maps.mosaic.placed import PlacedMap

RECORD_NAME = "tile.json"
# One row of blocks of the maps, few enough to hold their sums in memory.
STRIP_ROWS = 512
_MOST_TRIES = 100


def finished_record(job: TileJob, folder: Path) -> dict[str, Any] | None:
    """Return the record of an existing tile of this job; None when it has to be made.

    A tile with a damaged file has to be made.
    """
    record = read_json(folder / RECORD_NAME)
    if record is None or record.get("digest") != job.digest or not is_unchanged(record):
        return None
    files = record.get("files")
    # Tiles of earlier versions list no files: nothing tells whether theirs are whole.
    if not files or not all(is_recorded(folder / name, one) for name, one in files.items()):
        return None
    return record


def make_tile(job: TileJob, folder: Path) -> dict[str, Any]:
    """Make a tile, and replace an existing one.

    Parameters
    ----------
    job
        The tile to make.
    folder
        Folder of the tile. It appears complete or not at all.

    Returns
    -------
    dict
        ``digest``; ``pixels`` and ``hectares`` (true ground area inside the zone) of forest, other
        and no observation; ``scenes``; ``files``, with size and SHA-256 of each.

    Raises
    ------
    ReadError
        When a map cannot be read.
    WriteError
        When the tile cannot be written.
    """
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.partial")
    partial.mkdir(parents=True)
    try:
        record = _write_rasters(job, partial)
        record["files"] = recorded_files(partial, sorted(path.name for path in partial.iterdir()))
        for name in record["files"]:
            flush(partial / name)
        write_json(partial / RECORD_NAME, sealed(record))
        _publish(job, partial, folder)
    except OSError as error:
        raise WriteError(f"{folder}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return record


def _publish(job: TileJob, partial: Path, folder: Path) -> None:
    """Put a finished tile in place of another one, or keep the same tile of another worker."""
    # A worker that was cut off may publish the same tile between any two of these steps.
    for _ in range(_MOST_TRIES):
        if finished_record(job, folder) is not None:
            return
        with suppress(FileNotFoundError):
            folder.rename(partial.with_name(f"{partial.name}.old"))
        shutil.rmtree(partial.with_name(f"{partial.name}.old"), ignore_errors=True)
        try:
            partial.rename(folder)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        else:
            return
    raise WriteError(f"{folder}: others put tiles there all the time; one writer was wanted")


def _write_rasters(job: TileJob, folder: Path) -> dict[str, Any]:
    """Write mask, probability, count and cells of a tile; return its record."""
    table = PixelTable.build(job.georef)
    pixels, areas = np.zeros(256, np.int64), np.zeros(256)
    with ExitStack() as held:
        held.enter_context(pinned(**GDAL_OPTIONS, **network_options()))
        writers = _open_writers(job, folder, held)
        cells = CellSums(job.grid, job.window)
        maps = (*job.maps, *job.beyond)
        sources = [(one, held.enter_context(open_probability(one.path))) for one in maps]
        for row in range(0, job.window.height, STRIP_ROWS):
            strip = Window(row, 0, min(STRIP_ROWS, job.window.height - row), job.window.width)
            absolute = _in_zone(job.window, strip)
            shares = job.grid.shares(absolute)
            stored, seen = _fuse_window(job, sources, absolute, shares)
            codes = mask_from_probability(stored, job.threshold)
            for writer, values in zip(writers, (codes, stored, seen), strict=True):
                writer.write(strip, values)
            cells.add(absolute, codes, shares)
            area = table.area_m2(*strip.slices)
            if shares is not None:
                area = area * shares
            pixels += np.bincount(codes.ravel(), minlength=256)
            areas += np.bincount(codes.ravel(), area.ravel(), minlength=256)
        for writer in writers:
            writer.finish()
        cells.write(folder / CELLS_NAME)
    return _record(job, pixels, areas)


def _open_writers(job: TileJob, folder: Path, held: ExitStack) -> tuple[CogWriter, ...]:
    """Open the writers of mask, probability and count, in this order."""
    tags = {
        "MODEL": job.model,
        "THRESHOLD": repr(job.threshold),
        "MODEL_THRESHOLD": repr(job.threshold),
        "SCENE_ID": job.name,
        "MOSAIC_RULE": job.rule,
        "TIFFTAG_SOFTWARE": f"geoforest {__version__}",
    }
    kinds: tuple[tuple[type[MaskWriter | ProbabilityWriter | CountWriter], str, str], ...] = (
        (MaskWriter, MASK_NAME, "forest_mask"),
        (ProbabilityWriter, PROBABILITY_NAME, "forest_probability"),
        (CountWriter, COUNT_NAME, "observations"),
    )
    return tuple(
        held.enter_context(
            kind(folder / name, georef=job.georef, tags={**tags, "GEOFOREST_PRODUCT": product})
        )
        for kind, name, product in kinds
    )


def _fuse_window(
    job: TileJob,
    sources: list[tuple[Any, rasterio.DatasetReader]],
    window: Window,
    shares: NDArray[np.float64] | None,
) -> tuple[StoredProbability, NDArray[np.uint8]]:
    """Fuse the maps in a window; nothing is observed outside the zone and the area of interest."""
    outside = _outside(job, window, shares)
    own, beyond = sources[: len(job.maps)], sources[len(job.maps) :]
    stored, seen = fuse(_read_observations(job, own, window), window.shape, job.rule)
    missing = seen == 0 if outside is None else (seen == 0) & ~outside
    if beyond and missing.any():
        found = _read_observations(job, beyond, window, missing)
        there = fuse(found, window.shape, job.rule)
        stored[missing], seen[missing] = there[0][missing], there[1][missing]
    if outside is not None:
        stored[outside], seen[outside] = NO_OBSERVATION, 0
    return stored, seen


def _record(job: TileJob, pixels: NDArray[np.int64], areas: NDArray[np.float64]) -> dict[str, Any]:
    names = {"forest": FOREST, "other": OTHER, "no_observation": NO_OBSERVATION}
    maps = (*job.maps, *job.beyond)
    return {
        "digest": job.digest,
        "geoforest": __version__,
        "pixels": {name: int(pixels[code]) for name, code in names.items()},
        "hectares": {name: float(areas[code]) / 1e4 for name, code in names.items()},
        "scenes": [one.scene_id for one in maps],
        "acquired": sorted({one.finished.acquired for one in maps if one.finished.acquired}),
    }


def _read_observations(
    job: TileJob,
    sources: list[tuple[Any, rasterio.DatasetReader]],
    window: Window,
    wanted: NDArray[np.bool_] | None = None,
) -> Iterator[tuple[slice, slice, StoredProbability]]:
    for one, source in sources:
        if one.grid == job.grid:
            yield from read_piece(source, one, window)
        else:
            yield from read_across(source, one, job.grid, window, wanted)


def read_piece(
    source: rasterio.DatasetReader, one: PlacedMap, window: Window
) -> Iterator[tuple[slice, slice, StoredProbability]]:
    """Yield the pixels of a map in a window of its own grid, if there are any.

    Raises
    ------
    ReadError
        When the map cannot be read.
    """
    piece = piece_of(one, window)
    if piece is None:
        return
    inside, (row, col) = piece
    try:
        stored = source.read(1, window=inside.slices)
    except RasterioIOError as error:
        raise ReadError(f"{one.path}: cannot be read ({error})") from error
    yield slice(row, row + inside.height), slice(col, col + inside.width), stored


def open_probability(path: Path) -> rasterio.DatasetReader:
    """Open the stored probability of a map.

    Raises
    ------
    ReadError
        When it cannot be opened.
    """
    try:
        return open_raster(path)
    except RasterioIOError as error:
        raise ReadError(f"{path}: cannot be read ({error})") from error


def _outside(
    job: TileJob, window: Window, shares: NDArray[np.float64] | None
) -> NDArray[np.bool_] | None:
    """Return pixels outside the zone or the area of interest; None when there are none."""
    outside = None if shares is None else shares == 0
    if job.aoi is not None:
        beside = geometry_mask(
            [shapely.from_wkb(job.aoi)],
            out_shape=window.shape,
            transform=job.grid.transform(window),
        )
        outside = beside if outside is None else outside | beside
    return outside


def _in_zone(tile: Window, strip: Window) -> Window:
    return Window(
        tile.row_off + strip.row_off, tile.col_off + strip.col_off, strip.height, strip.width
    )
