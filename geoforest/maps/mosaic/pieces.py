"""Patches cut at tiles: one GeoParquet per tile, and the table of the patches of pieces."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
import shapely

from geoforest.io.recorded import replace_if_other
from geoforest.io.vectors import write_polygons

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    import geopandas

    from geoforest.arrays.grid import Window
    from geoforest.arrays.zones import Numbers, ZoneGrid

TABLE_NAME: Final = "pieces.parquet"
PIECES_NAME: Final = "pieces"


@dataclass(frozen=True)
class ZoneRasters:
    """Rasters of a whole zone.

    Attributes
    ----------
    grid, window
        Grid of the zone, and the pixels of the rasters in it.
    mask, probability
        Paths of the rasters.
    tiles
        Pixels of each tile, by name.
    """

    grid: ZoneGrid
    window: Window
    mask: Path
    probability: Path
    tiles: Mapping[str, Window]


def tile_edges(rasters: ZoneRasters) -> tuple[Numbers, Numbers]:
    """Return rows and columns of a zone's rasters that are edges of tiles, to cut polygons."""
    window, tiles = rasters.window, rasters.tiles.values()
    rows = {edge for tile in tiles for edge in (tile.row_off, tile.row_off + tile.height)}
    cols = {edge for tile in tiles for edge in (tile.col_off, tile.col_off + tile.width)}
    down = np.array(sorted(rows), np.int64) - window.row_off
    across = np.array(sorted(cols), np.int64) - window.col_off
    return (
        down[(down > 0) & (down < window.height)],
        across[(across > 0) & (across < window.width)],
    )


def group_by_tile(
    frames: Iterable[geopandas.GeoDataFrame], rasters: ZoneRasters
) -> Iterator[tuple[str, geopandas.GeoDataFrame]]:
    """Sort polygons by tile, and yield each tile as soon as it is complete.

    Parameters
    ----------
    frames
        Polygons cut along :func:`tile_edges`, from north to south.
    rasters
        Rasters of the zone.
    """
    tops = np.array(sorted({tile.row_off for tile in rasters.tiles.values()}))
    lefts = np.array(sorted({tile.col_off for tile in rasters.tiles.values()}))
    names = {(tile.row_off, tile.col_off): name for name, tile in rasters.tiles.items()}
    open_tiles: dict[str, list[geopandas.GeoDataFrame]] = {name: [] for name in rasters.tiles}
    empty = None
    for frame in frames:
        if empty is None:
            empty = frame.iloc[:0]
        if not len(frame):
            continue
        inside = shapely.point_on_surface(frame.geometry.to_numpy())
        row = np.floor(-shapely.get_y(inside) / rasters.grid.size).astype(np.int64)
        col = np.floor(shapely.get_x(inside) / rasters.grid.size).astype(np.int64)
        top = tops[np.searchsorted(tops, row, "right") - 1]
        left = lefts[np.searchsorted(lefts, col, "right") - 1]
        for place in np.unique(np.column_stack([top, left]), axis=0):
            chosen = (top == place[0]) & (left == place[1])
            open_tiles[names[tuple(place.tolist())]].append(frame[chosen])
        reached = int(row.min())
        for name in [name for name in open_tiles if _row_below(rasters, name) <= reached]:
            yield name, _number_pieces(open_tiles.pop(name), empty, rasters)
    assert empty is not None
    for name, rest in open_tiles.items():
        yield name, _number_pieces(rest, empty, rasters)


def write_pieces(
    tiles: Iterable[tuple[str, geopandas.GeoDataFrame]],
    folder: Path,
    with_whole_areas: Callable[[geopandas.GeoDataFrame], geopandas.GeoDataFrame],
) -> tuple[int, list[str], bool]:
    """Write the pieces of each tile, and the table that names the patch of each piece.

    Parameters
    ----------
    tiles
        See :func:`group_by_tile`.
    folder
        Folder of the mosaic.
    with_whole_areas
        Sets the areas of pieces to those of whole patches, across zones.

    Returns
    -------
    n_pieces
        Number of pieces.
    changed
        Names of tiles whose pieces were written, changed or removed.
    table_changed
        Whether the table was written.
    """
    wanted, changed = set(), []
    (folder / PIECES_NAME).mkdir(exist_ok=True)

    def tables() -> Iterator[pd.DataFrame]:
        for name, frame in tiles:
            wanted.add(f"{name}.parquet")
            own = frame.drop(columns=["patch_id", "patch_area_ha"])
            path = folder / PIECES_NAME / f"{name}.parquet"
            if replace_if_other(path, partial(write_polygons, [own])):
                changed.append(name)
            whole = with_whole_areas(frame)[["piece_id", "patch_id", "patch_area_ha"]]
            yield whole.assign(tile=name)

    counted: list[int] = []
    write = partial(_write_table, tables(), counted)
    table_changed = replace_if_other(folder / TABLE_NAME, write)
    for path in (folder / PIECES_NAME).glob("*.parquet"):
        if path.name not in wanted:
            path.unlink()
            changed.append(path.stem)
    return sum(counted), changed, table_changed


def _row_below(rasters: ZoneRasters, name: str) -> int:
    """Return the first row below a tile."""
    return rasters.tiles[name].row_off + rasters.tiles[name].height


def _write_table(tables: Iterator[pd.DataFrame], counted: list[int], path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema(
        {
            "piece_id": pyarrow.int64(),
            "patch_id": pyarrow.int64(),
            "patch_area_ha": pyarrow.float64(),
            "tile": pyarrow.string(),
        }
    )
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for table in tables:
            counted.append(len(table))
            writer.write_table(pyarrow.Table.from_pandas(table, schema, preserve_index=False))


def _number_pieces(
    frames: list[geopandas.GeoDataFrame], empty: geopandas.GeoDataFrame, rasters: ZoneRasters
) -> geopandas.GeoDataFrame:
    made = pd.concat(frames or [empty], ignore_index=True)
    numbers = _topmost_pixel_ids(made, rasters.grid)
    made = made.assign(piece_id=numbers)
    columns = ["piece_id", *(name for name in made.columns if name not in ("piece_id", "geometry"))]
    return made[[*columns, "geometry"]].sort_values("piece_id").reset_index(drop=True)


def _topmost_pixel_ids(frame: geopandas.GeoDataFrame, grid: ZoneGrid) -> Numbers:
    """Return, for each polygon, the id of the leftmost of its topmost pixels."""
    points, place = shapely.get_coordinates(frame.geometry.to_numpy(), return_index=True)
    order = np.lexsort([points[:, 0], -points[:, 1], place])
    _, firsts = np.unique(place[order], return_index=True)
    x, y = points[order][firsts].T
    cols = np.floor(x / grid.size + 1e-6).astype(np.int64)
    return grid.ids(np.floor(-y / grid.size + 1e-6).astype(np.int64), cols)
