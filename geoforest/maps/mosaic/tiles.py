"""One tile's work: read its maps, fuse them, and leave three rasters in a folder of their own."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import shapely
from rasterio.errors import RasterioIOError
from rasterio.features import geometry_mask

from geoforest._version import __version__
from geoforest.arrays.area import PixelTable
from geoforest.arrays.grid import Window
from geoforest.arrays.stitch import mask_from_probability
from geoforest.errors import ReadError
from geoforest.io.cog import CountWriter, MaskWriter, ProbabilityWriter
from geoforest.io.names import COUNT_NAME, MASK_NAME, PROBABILITY_NAME
from geoforest.io.raster import open_raster
from geoforest.io.remote import network_options
from geoforest.io.storage import read_json, write_json
from geoforest.maps.mosaic.cells import CELLS_NAME, CellSums
from geoforest.maps.mosaic.fuse import fuse
from geoforest.maps.mosaic.plan import TileJob, piece_of
from geoforest.scenes.read import GDAL_OPTIONS
from geoforest.types import FOREST, NO_OBSERVATION, OTHER, StoredProbability

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

RECORD_NAME = "tile.json"
# Blocks of the maps, and few enough to hold the sums of a whole row of them.
_STRIP_ROWS = 512


def finished(job: TileJob, folder: Path) -> dict[str, Any] | None:
    """Record of a tile that is there, and made of the same; None where it has to be made."""
    record = read_json(folder / RECORD_NAME)
    return record if record is not None and record.get("digest") == job.digest else None


def make_tile(job: TileJob, folder: Path) -> dict[str, Any]:
    """Make a tile, in place of whatever is there.

    Parameters
    ----------
    job
    folder
        Of the tile. It appears whole or not at all.

    Returns
    -------
    dict
        ``digest``, ``pixels`` and ``hectares`` (true ground, of the zone's own ground) of forest,
        other and not observed, ``scenes``.

    Raises
    ------
    ReadError
        When a map cannot be read.
    WriteError
        When the tile cannot be written.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        record = _make(job, partial)
        write_json(partial / RECORD_NAME, record)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return record


def _make(job: TileJob, folder: Path) -> dict[str, Any]:
    table = PixelTable.build(job.georef)
    tags = {
        "MODEL": job.model,
        "THRESHOLD": repr(job.threshold),
        "MODEL_THRESHOLD": repr(job.threshold),
        "SCENE_ID": job.name,
        "MOSAIC_RULE": job.rule,
        "TIFFTAG_SOFTWARE": f"geoforest {__version__}",
    }
    pixels, areas = np.zeros(256, np.int64), np.zeros(256)
    with ExitStack() as held:
        held.enter_context(rasterio.Env(**GDAL_OPTIONS, **network_options()))
        mask, probability, count = (
            held.enter_context(
                kind(
                    folder / name,
                    georef=job.georef,
                    tags={**tags, "GEOFOREST_PRODUCT": product},
                )
            )
            for kind, name, product in (
                (MaskWriter, MASK_NAME, "forest_mask"),
                (ProbabilityWriter, PROBABILITY_NAME, "forest_probability"),
                (CountWriter, COUNT_NAME, "observations"),
            )
        )
        cells = CellSums(job.grid, job.window)
        sources = [(one, held.enter_context(_opened(one.path))) for one in job.maps]
        for row in range(0, job.window.height, _STRIP_ROWS):
            strip = Window(row, 0, min(_STRIP_ROWS, job.window.height - row), job.window.width)
            absolute = _within(job.window, strip)
            stored, seen = fuse(_observations(sources, absolute), strip.shape, job.rule)
            shares = job.grid.shares(absolute)
            outside = _outside(job, absolute, shares)
            if outside is not None:
                stored[outside], seen[outside] = NO_OBSERVATION, 0
            codes = mask_from_probability(stored, job.threshold)
            for writer, values in ((mask, codes), (probability, stored), (count, seen)):
                writer.write(strip, values)
            cells.add(absolute, codes, shares)
            area = table.area_m2(*strip.slices)
            if shares is not None:
                area = area * shares
            pixels += np.bincount(codes.ravel(), minlength=256)
            areas += np.bincount(codes.ravel(), area.ravel(), minlength=256)
        for writer in (mask, probability, count):
            writer.finish()
        cells.write(folder / CELLS_NAME)
    names = {"forest": FOREST, "other": OTHER, "no_observation": NO_OBSERVATION}
    return {
        "digest": job.digest,
        "geoforest": __version__,
        "pixels": {name: int(pixels[code]) for name, code in names.items()},
        "hectares": {name: float(areas[code]) / 1e4 for name, code in names.items()},
        "scenes": [one.scene_id for one in job.maps],
        "acquired": sorted({one.made.acquired for one in job.maps if one.made.acquired}),
    }


def _observations(
    sources: list[tuple[Any, rasterio.DatasetReader]], window: Window
) -> list[tuple[slice, slice, StoredProbability]]:
    found = []
    for one, source in sources:
        piece = piece_of(one, window)
        if piece is None:
            continue
        inside, (row, col) = piece
        try:
            stored = source.read(1, window=inside.slices)
        except RasterioIOError as error:
            raise ReadError(f"{one.path}: cannot be read ({error})") from error
        found.append((slice(row, row + inside.height), slice(col, col + inside.width), stored))
    return found


def _opened(path: Path) -> rasterio.DatasetReader:
    try:
        return open_raster(path)
    except RasterioIOError as error:
        raise ReadError(f"{path}: cannot be read ({error})") from error


def _outside(
    job: TileJob, window: Window, shares: NDArray[np.float64] | None
) -> NDArray[np.bool_] | None:
    """Pixels beyond the zone's ground, or beyond the area of interest."""
    outside = None if shares is None else shares == 0
    if job.aoi is not None:
        beside = geometry_mask(
            [shapely.from_wkb(job.aoi)],
            out_shape=window.shape,
            transform=job.grid.transform(window),
        )
        outside = beside if outside is None else outside | beside
    return outside


def _within(tile: Window, strip: Window) -> Window:
    return Window(
        tile.row_off + strip.row_off, tile.col_off + strip.col_off, strip.height, strip.width
    )
