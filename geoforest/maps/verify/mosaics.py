"""Check that mosaics and comparisons are complete, and agree with their own records."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rasterio.errors import RasterioError

from geoforest.arrays.area import PixelTable
from geoforest.arrays.georef import GeoRef
from geoforest.arrays.grid import Window
from geoforest.arrays.zones import Zone, ZoneGrid
from geoforest.errors import InputError
from geoforest.io.cog import read_strips
from geoforest.io.geopackage import LAYER
from geoforest.io.names import (
    COUNT_NAME,
    JOB_NAME,
    MASK_NAME,
    MOSAIC_NAME,
    PROBABILITY_NAME,
    REPORT_NAME,
    UNITS_NAME,
)
from geoforest.io.raster import open_raster
from geoforest.io.sqlite import read_database
from geoforest.io.storage import is_unchanged, read_json
from geoforest.maps.change import codes as change
from geoforest.maps.mosaic.catalogue import CATALOGUE_NAME, ITEM_NAME
from geoforest.maps.mosaic.cells import CELLS_NAME
from geoforest.maps.mosaic.ground import GROUND_NAME, add_up, disagreement
from geoforest.maps.mosaic.pieces import PIECES_NAME, TABLE_NAME
from geoforest.maps.mosaic.request import FRACTION_NAME, OVERVIEW_NAME, TILES_NAME
from geoforest.maps.mosaic.tiles import RECORD_NAME
from geoforest.maps.verify.checks import (
    CHANGED_RECORD,
    Problem,
    check_codes,
    check_database,
    check_files,
)
from geoforest.types import NO_OBSERVATION

if TYPE_CHECKING:
    from collections.abc import Iterator

_TILE_FILES: Final = (MASK_NAME, PROBABILITY_NAME, COUNT_NAME, CELLS_NAME, ITEM_NAME)
_MOSAIC_FILES: Final = (
    TABLE_NAME, FRACTION_NAME, OVERVIEW_NAME, CATALOGUE_NAME, REPORT_NAME,
)  # fmt: skip
# A share of the ground: rounding of sums.
_ROUNDING: Final = 1e-9


def verify_mosaic_or_change(folder: Path) -> list[Problem] | None:
    """Check a mosaic or a comparison; return None when the folder is neither.

    A comparison records checksums of its files. A mosaic can grow and has none: its files must be
    there, and pixels and polygons are counted again and compared with its record.

    Parameters
    ----------
    folder
        Folder on disk.
    """
    if (folder / change.SUMMARY_NAME).exists():
        check, record = _change, change.SUMMARY_NAME
    elif (folder / MOSAIC_NAME).exists():
        check, record = _mosaic, MOSAIC_NAME
    elif (tiles := folder / TILES_NAME).is_dir() and not (tiles / JOB_NAME).exists():
        what = "unfinished: the same command of geoforest mosaic goes on from what is done"
        return [Problem(folder, what, "files")]
    else:
        return None
    try:
        return list(check(folder, json.loads((folder / record).read_bytes())))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"is damaged, or of another version: nothing says what belongs here ({error!r})"
        return [Problem(folder / record, what, "files")]


def _change(folder: Path, summary: dict[str, Any]) -> Iterator[Problem]:
    yield from _sealed(folder / change.SUMMARY_NAME, summary)
    broken = dict(check_files(folder, summary["outputs"], change.SUMMARY_NAME))
    yield from broken.values()
    if change.CHANGE_NAME in broken:
        return
    pixels = np.zeros(256, np.int64)
    for _, codes in read_strips(folder / change.CHANGE_NAME):
        pixels += np.bincount(codes.ravel(), minlength=256)
    for code, name in change.NAMES.items():
        recorded = summary["pixels"][name.replace(" ", "_")]
        if recorded != pixels[code]:
            what = f"says {recorded} pixels {name}, the raster has {pixels[code]}"
            yield Problem(folder / change.SUMMARY_NAME, what, "codes")


def _mosaic(folder: Path, summary: dict[str, Any]) -> Iterator[Problem]:
    sums = dict.fromkeys(summary["pixels"], 0)
    observed_ha: dict[str, float] = {}
    for name, digest in summary["question"]["tiles"].items():
        tile = folder / TILES_NAME / name
        record = read_json(tile / RECORD_NAME)
        if record is None or record.get("digest") != digest:
            what = f"is missing, or not the tile that {MOSAIC_NAME} is of"
            yield Problem(tile, what, "files")
            continue
        yield from _sealed(tile / RECORD_NAME, record)
        yield from _missing(tile, _TILE_FILES)
        yield from _changed(tile, record.get("files", {}), RECORD_NAME)
        yield from _missing(folder, (f"{PIECES_NAME}/{name}.parquet",))
        sums = {key: count + record["pixels"][key] for key, count in sums.items()}
        paths = [tile / MASK_NAME, tile / PROBABILITY_NAME]
        if all(path.is_file() for path in paths):
            try:
                observed_ha[name] = _observed_ha(tile / MASK_NAME)
                threshold = float(summary["threshold"])
                yield from check_codes(paths, record["pixels"], threshold, RECORD_NAME)
            except RasterioError as error:
                yield Problem(tile, f"a raster of it cannot be read ({error})", "layout")
    for key, count in sums.items():
        if count != summary["pixels"][key]:
            what = f"says {summary['pixels'][key]} pixels {key}, the tiles have {count}"
            yield Problem(folder / MOSAIC_NAME, what, "codes")
    # Ground of tiles that cannot be read is told already.
    if observed_ha.keys() == summary["question"]["tiles"].keys():
        yield from _ground(folder, summary, sum(observed_ha.values()))
    yield from _sealed(folder / MOSAIC_NAME, summary)
    yield from _missing(folder, _MOSAIC_FILES)
    yield from _changed(folder, summary.get("outputs", {}), MOSAIC_NAME)
    rasters = (MASK_NAME, PROBABILITY_NAME, COUNT_NAME)
    for zone in summary["zones"]:
        yield from _missing(folder, tuple(f"{Path(name).stem}_{zone}.vrt" for name in rasters))
    if summary.get("units"):
        yield from _missing(folder, (UNITS_NAME,))
    yield from _polygons(folder, summary)


def _observed_ha(mask: Path) -> float:
    """Measure the observed ground of a tile that lies in its zone, hectares."""
    with open_raster(mask) as source:
        georef = GeoRef.of(source, mask)
    zone = Zone.of(georef.crs)
    if zone is None:
        raise ValueError(f"{mask}: lies in no UTM zone")
    t, table = georef.transform, PixelTable.build(georef)
    grid, total = ZoneGrid(zone, t.a), 0.0
    for strip, codes in read_strips(mask):
        row, col = round(-t.f / t.a) + strip.row_off, round(t.c / t.a) + strip.col_off
        shares = grid.shares(Window(row, col, *codes.shape))
        area = table.area_m2(*strip.slices)
        seen = codes != NO_OBSERVATION
        total += float(area[seen].sum() if shares is None else (area * shares)[seen].sum())
    return total / 1e4


def _ground(folder: Path, summary: dict[str, Any], observed_ha: float) -> Iterator[Problem]:
    """Compare the ground of the tiles with what is recorded, and with what the maps observed."""
    if "ground" not in summary:
        what = (
            "was made by an earlier geoforest, which left out ground beyond the borders of UTM "
            "zones where no map of the next zone has it; make the mosaic again"
        )
        yield Problem(folder / MOSAIC_NAME, what, "ground")
        return
    recorded = float(summary["hectares"]["observed"])
    if abs(recorded - observed_ha) > _ROUNDING * max(recorded, observed_ha):
        what = f"says {recorded:,.4f} ha observed, the tiles have {observed_ha:,.4f} ha"
        yield Problem(folder / MOSAIC_NAME, what, "ground")
    surveyed = read_json(folder / GROUND_NAME)
    if surveyed is None:
        yield Problem(
            folder / GROUND_NAME, "missing or damaged, and belongs to the mosaic", "files"
        )
        return
    try:
        ground = add_up(surveyed["tiles"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        yield Problem(folder / GROUND_NAME, f"damaged: lacks something ({error!r:.80})", "files")
        return
    for name, value in ground.items():
        if abs(value - summary["ground"][name]) > _ROUNDING * value:
            what = f"says {name} is {summary['ground'][name]:,.4f}, {GROUND_NAME} {value:,.4f}"
            yield Problem(folder / MOSAIC_NAME, what, "ground")
    if (wrong := disagreement(observed_ha, ground)) is not None:
        yield Problem(folder, wrong, "ground")


def _sealed(path: Path, document: dict[str, Any]) -> Iterator[Problem]:
    if not is_unchanged(document):
        yield Problem(path, CHANGED_RECORD, "files")


def _changed(folder: Path, recorded: dict[str, Any], record: str) -> Iterator[Problem]:
    """Compare the files that are there with their checksums; names may have folders."""
    by_folder: dict[PurePosixPath, dict[str, Any]] = {}
    for name, one in recorded.items():
        path = PurePosixPath(name)
        if ".." not in path.parts and not path.is_absolute() and (folder / path).is_file():
            by_folder.setdefault(path.parent, {})[path.name] = one
    for parent, files in by_folder.items():
        yield from dict(check_files(folder / parent, files, record)).values()


def _missing(folder: Path, names: tuple[str, ...]) -> Iterator[Problem]:
    for name in names:
        if not (folder / name).is_file():
            yield Problem(folder / name, "missing, and belongs to the mosaic", "files")


def _polygons(folder: Path, summary: dict[str, Any]) -> Iterator[Problem]:
    count = 0
    for zone in summary["zones"]:
        path = folder / f"forest_{zone}.gpkg"
        if not path.is_file():
            yield Problem(path, "missing, and belongs to the mosaic", "files")
            return
        try:
            with read_database(path) as database:
                yield from check_database(path, database)
                count += database.execute(f'SELECT count(*) FROM "{LAYER}"').fetchone()[0]
        except (InputError, sqlite3.Error) as error:
            yield Problem(path, f"is not a GeoPackage of geoforest ({error})", "polygons")
            return
    if count != (recorded := summary["polygons"]["polygons"]):
        what = f"says {recorded} polygons, the zones have {count}"
        yield Problem(folder / MOSAIC_NAME, what, "polygons")
