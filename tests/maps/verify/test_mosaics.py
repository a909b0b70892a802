"""Mosaics and comparisons: nothing is found where nothing was done, and what was done is."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.windows import Window

from geoforest import map_change, mosaic_maps
from geoforest.maps.verify.run import verify
from tests.helpers.maps import write_map

GROUND = {"epsg": 32720, "left": 500_000, "top": 9_700_000, "shape": (120, 150)}
FOREST = shapely.box(-63.0, -2.7220, -62.9955, -2.7125)
CLEARED = shapely.box(-62.9990, -2.7190, -62.9970, -2.7160)


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_bundle) -> Path:
    home = tmp_path_factory.mktemp("made")
    early = write_map(home / "maps", "early", tiny_bundle.path, [FOREST], **GROUND)
    late = write_map(
        home / "maps", "late", tiny_bundle.path, [FOREST - CLEARED],
        acquired=datetime(2024, 9, 1, 14, tzinfo=UTC), **GROUND,
    )  # fmt: skip
    map_change(early, late, home / "change")
    mosaic_maps([early, late], home / "mosaic")
    return home


@pytest.fixture
def folders(made, tmp_path) -> tuple[Path, Path]:
    return (
        Path(shutil.copytree(made / "mosaic", tmp_path / "mosaic")),
        Path(shutil.copytree(made / "change", tmp_path / "change")),
    )


def found(folder: Path) -> list[str]:
    return [str(problem).replace(str(folder), "DIR") for problem in verify(folder)]


def rewrite(path: Path, code: int, pixels: int) -> None:
    """Write a code over as many pixels of another one, in the last row."""
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK=True) as target:
        window = Window(0, target.height - 1, target.width, 1)
        values = target.read(1, window=window)
        places = np.flatnonzero(values != code)[:pixels]
        assert len(places) == pixels
        values.reshape(-1)[places] = code
        target.write(values, 1, window=window)


@pytest.mark.slow
def test_what_was_left_alone(folders):
    for folder in folders:
        assert found(folder) == []


def test_files_of_a_comparison(folders):
    _, change = folders
    (change / "report.html").unlink()
    rewrite(change / "forest_change.tif", 1, 9)
    assert found(change) == [
        "DIR/forest_change.tif: changed: its checksum is not the one in change.json",
        "DIR/report.html: missing, and change.json lists it",
    ]


def test_counts_of_a_comparison(folders):
    _, change = folders
    summary = json.loads((change / "change.json").read_text())
    summary["pixels"]["loss"] += 1
    (change / "change.json").write_text(json.dumps(summary))
    loss = summary["pixels"]["loss"]
    assert found(change) == [
        "DIR/change.json: was changed since it was written: its own checksum is another one",
        f"DIR/change.json: says {loss} pixels loss, the raster has {loss - 1}",
    ]


def test_files_of_a_mosaic(folders):
    mosaic, _ = folders
    (tile,) = (mosaic / "tiles").iterdir()
    (tile / "observations.tif").unlink()
    (mosaic / "overview.gpkg").unlink()
    (mosaic / "forest_mask_20S.vrt").unlink()
    (mosaic / "pieces" / f"{tile.name}.parquet").unlink()
    assert found(mosaic) == [
        f"DIR/tiles/{tile.name}/observations.tif: missing, and belongs to the mosaic",
        f"DIR/pieces/{tile.name}.parquet: missing, and belongs to the mosaic",
        "DIR/overview.gpkg: missing, and belongs to the mosaic",
        "DIR/forest_mask_20S.vrt: missing, and belongs to the mosaic",
    ]


def test_pixels_and_polygons_of_a_mosaic(folders):
    mosaic, _ = folders
    (tile,) = (mosaic / "tiles").iterdir()
    rewrite(tile / "forest_mask.tif", 1, 5)
    (package,) = mosaic.glob("forest_*.gpkg")
    with closing(sqlite3.connect(package)) as database, database:
        # Its triggers call functions that only GDAL has.
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
            database.execute(f'DROP TRIGGER "{name}"')
        database.execute("DELETE FROM forest_cover WHERE fid = 1")
    problems = found(mosaic)
    assert f"DIR/tiles/{tile.name}: mask and probability disagree in 5 pixels at 0.5" in problems
    assert any(one.startswith(f"DIR/tiles/{tile.name}/tile.json: says") for one in problems)
    count = json.loads((mosaic / "mosaic.json").read_text())["polygons"]["polygons"]
    assert f"DIR/mosaic.json: says {count} polygons, the zones have {count - 1}" in problems


def test_tiles_that_are_gone_or_of_another_mosaic(folders):
    mosaic, _ = folders
    (tile,) = (mosaic / "tiles").iterdir()
    record = json.loads((tile / "tile.json").read_text())
    (tile / "tile.json").write_text(json.dumps({**record, "digest": "another"}))
    sentence = f"DIR/tiles/{tile.name}: is missing, or not the tile that mosaic.json is of"
    assert sentence in found(mosaic)
    shutil.rmtree(tile)
    assert sentence in found(mosaic)


def test_what_is_unfinished_or_damaged(folders):
    mosaic, change = folders
    (mosaic / "mosaic.json").unlink()
    (problem,) = found(mosaic)
    assert problem.startswith("DIR: unfinished")
    (change / "change.json").write_text("{}")
    (problem,) = found(change)
    assert problem.startswith("DIR/change.json: is damaged")
