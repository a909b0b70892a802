"""Tiles with a damaged file are made anew, and what they were part of."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import shapely

from geoforest import mosaic_maps
from geoforest.maps.verify.run import verify
from tests.helpers.maps import write_map

GROUND = {"epsg": 32720, "left": 500_000, "top": 9_700_000, "shape": (60, 80), "size": 40.0}
FOREST = shapely.box(-63.0, -2.7200, -62.9955, -2.7125)


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_bundle) -> Path:
    home = tmp_path_factory.mktemp("made")
    folder = write_map(home / "maps", "one", tiny_bundle.path, [FOREST], **GROUND)
    mosaic_maps([folder], home / "mosaic")
    return home


@pytest.fixture
def mosaic(made, tmp_path) -> Path:
    return Path(shutil.copytree(made / "mosaic", tmp_path / "mosaic"))


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "mosaic.json"
    }


def flip(path: Path, place: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 4
    path.write_bytes(data)


def again(made: Path, mosaic: Path) -> dict:
    return mosaic_maps([*(made / "maps").iterdir()], mosaic).summary["rewritten"]


@pytest.mark.parametrize(
    "name", ["cells.tif", "forest_mask.tif", "forest_probability.tif", "observations.tif"]
)
@pytest.mark.parametrize("how", ["cut short", "flipped"])
def test_rasters(made, mosaic, name, how):
    (tile,) = (mosaic / "tiles").iterdir()
    path = tile / name
    if how == "flipped":
        flip(path, 0.7)
    else:
        path.write_bytes(path.read_bytes()[:-40])
    assert again(made, mosaic)["tiles"] == [tile.name]
    assert files(mosaic) == files(made / "mosaic")


def test_the_record_of_a_tile(made, mosaic):
    (tile,) = (mosaic / "tiles").iterdir()
    record = json.loads((tile / "tile.json").read_text())
    record["hectares"]["forest"] += 1
    (tile / "tile.json").write_text(json.dumps(record))
    assert again(made, mosaic)["tiles"] == [tile.name]
    assert files(mosaic) == files(made / "mosaic")


@pytest.mark.parametrize("name", ["pieces.parquet", "forest_fraction.tif", "collection.json"])
def test_tables_are_made_anew_from_sound_tiles(made, mosaic, name):
    flip(mosaic / name, 0.5)
    assert again(made, mosaic)["tiles"] == []
    assert files(mosaic) == files(made / "mosaic")


def test_what_has_not_changed_is_kept(made, mosaic):
    before = {path: path.stat().st_mtime_ns for path in mosaic.rglob("*.tif")}
    rewritten = again(made, mosaic)
    assert rewritten["tiles"] == rewritten["pieces"] == rewritten["zones"] == []
    assert before == {path: path.stat().st_mtime_ns for path in mosaic.rglob("*.tif")}


def test_leftovers_of_a_killed_run_are_removed(made, mosaic):
    (mosaic / "mosaic.json").unlink()
    left = [
        ".mosaic.json.0123456789ab.partial", ".forest_20S.new.gpkg", ".20S.spool.parquet",
        ".forest_fraction.tif.flat", "pieces/.x.new.parquet",
    ]  # fmt: skip
    for name in left:
        (mosaic / name).touch()
    (mosaic / ".mine").touch()
    again(made, mosaic)
    assert not any((mosaic / name).exists() for name in left)
    assert (mosaic / ".mine").exists()


# Files may not grow beyond a limit, as on a full disk: the kernel answers the same way.
LIMITED = """
import resource, sys
limit = int(sys.argv.pop(1))
from geoforest.cli import main
import geoforest.maps.mosaic.run
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
main()
"""


@pytest.mark.slow
def test_a_full_disk_leaves_no_tile_that_looks_complete(made, tmp_path):
    (folder,) = (made / "maps").iterdir()
    failed = subprocess.run(
        [sys.executable, "-c", LIMITED, "60000", "mosaic", folder, "--out", tmp_path / "m"],
        capture_output=True,
        text=True,
    )
    assert failed.returncode == 1, failed.stderr
    assert failed.stderr.splitlines()[-1].startswith("geoforest: ")
    assert "Traceback" not in failed.stderr
    assert not list((tmp_path / "m" / "tiles").glob("*/tile.json"))
    mosaic_maps([folder], tmp_path / "m")
    assert files(tmp_path / "m") == files(made / "mosaic")
    assert verify(tmp_path / "m") == []
