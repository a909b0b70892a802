"""Verification finds what was done to outputs, and nothing where nothing was done."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from geoforest.errors import InputError
from geoforest.io.locks import exclusive_lock
from geoforest.maps.verify.run import verify
from tests.helpers import synthetic
from tests.helpers.jobs import run
from tests.helpers.tampering import rewrite, seal


@pytest.fixture(scope="module")
def finished(tiny_bundle, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("maps")
    dn = synthetic.digital_numbers((150, 190))
    dn[:, :40, :30] = 0
    scene = synthetic.write_raster(folder / "scene.tif", dn, nodata=0)
    return run(scene, folder / "out", tiny_bundle, min_area_ha=0.3).folder


@pytest.fixture
def folder(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "out" / "scene"))


def found(folder: Path) -> list[str]:
    return [str(problem).replace(str(folder), "DIR") for problem in verify(folder)]


def test_untouched_outputs(folder):
    assert found(folder) == []
    assert found(folder.parent) == []


def test_changed_and_missing_files(folder):
    (folder / "forest_mask.tif").unlink()
    data = bytearray((folder / "forest.gpkg").read_bytes())
    data[-1] ^= 1
    (folder / "forest.gpkg").write_bytes(data)
    assert found(folder) == [
        "DIR/forest.gpkg: changed: its checksum is not the one in job.json",
        "DIR/forest_mask.tif: missing, and job.json lists it",
    ]


def test_a_pixel_that_was_flipped(folder):
    def change(values: np.ndarray) -> None:
        values[100, 100] = 1 - values[100, 100]

    rewrite(folder / "forest_mask.tif", change)
    seal(folder, "forest_mask.tif")
    problems = "\n".join(found(folder))
    assert "DIR/forest_mask.tif: is no longer a cloud-optimised GeoTIFF" in problems
    assert "mask and probability disagree in 1 pixels at 0.5" in problems
    assert "pixels forest, the mask has" in problems


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("forest_mask.tif", "1 pixels of codes other than 0, 1 and 255"),
        ("forest_probability.tif", "1 pixels of values other than 0 to 250 and 255"),
    ],
)
def test_strange_codes(folder, name, what):
    def change(values: np.ndarray) -> None:
        values[100, 100] = 252

    rewrite(folder / name, change)
    seal(folder, name)
    assert any(what in problem for problem in found(folder))


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("DELETE FROM forest_cover WHERE fid = 1", "parts is"),
        ("UPDATE forest_cover SET n_pixels = n_pixels + 1 WHERE fid = 1", "polygon_px is"),
        ("DROP TABLE layer_styles", "is not a GeoPackage of geoforest"),
        ("DELETE FROM layer_styles", "its default style is missing"),
        ("DELETE FROM rtree_forest_cover_geom WHERE id = 1", "its spatial index has"),
    ],
)
def test_a_geopackage_that_was_edited(folder, statement, what):
    with sqlite3.connect(folder / "forest.gpkg") as database:
        for name in ("ST_IsEmpty", "ST_MinX", "ST_MaxX", "ST_MinY", "ST_MaxY"):
            database.create_function(name, 1, lambda geometry: 0)
        database.execute(statement)
    database.close()
    seal(folder, "forest.gpkg")
    assert any(what in problem for problem in found(folder))


def test_a_damaged_database(folder):
    path = folder / "forest.gpkg"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    seal(folder, "forest.gpkg")
    assert any("forest.gpkg: is" in problem for problem in found(folder))


def test_numbers_that_do_not_add_up(folder):
    summary = json.loads((folder / "summary.json").read_text())
    summary["polygons"]["dropped_px"] += 1
    (folder / "summary.json").write_text(json.dumps(summary))
    seal(folder, "summary.json")
    assert any("polygon pixels do not add up" in problem for problem in found(folder))
    (folder / "summary.json").write_text("{}")
    seal(folder, "summary.json")
    assert any("lacks something" in problem for problem in found(folder))


def test_unfinished_and_foreign_folders(folder, tmp_path):
    (folder / "job.json").write_text("{")
    assert "is damaged" in found(folder)[0]
    (folder / "job.json").unlink()
    (folder / ".geoforest-work").mkdir()
    assert found(folder)[0].startswith("DIR: unfinished")
    with pytest.raises(InputError, match=r"holds no outputs .*job\.json of a map"):
        verify(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        verify(tmp_path / "nothing")


def test_a_killed_run_is_unfinished_wherever_one_looks(tmp_path, tiny_bundle):
    def stop(stage: str, done: int, total: int) -> None:
        if any((tmp_path / "out").glob("scene/.geoforest-work/shards/r*.tif")):
            raise ZeroDivisionError

    dn = synthetic.digital_numbers((150, 190))
    scene = synthetic.write_raster(tmp_path / "scene.tif", dn, nodata=0)
    with pytest.raises(ZeroDivisionError):
        run(scene, tmp_path / "out", tiny_bundle, progress=stop)
    folder = tmp_path / "out" / "scene"
    sentence = "unfinished: the same command of geoforest map goes on from what is done"
    for looked_at, told in (
        (tmp_path / "out", folder), (folder, folder),
        (folder / ".geoforest-work", folder / ".geoforest-work"),
    ):  # fmt: skip
        assert list(map(str, verify(looked_at))) == [f"{told}: {sentence}"]
    with exclusive_lock(folder / ".geoforest-work"):
        assert "still at work" in str(verify(folder)[0])


def test_a_comparison_whose_run_died_is_named(tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from geoforest.io.publication import staging\n"
        "with staging(Path(sys.argv[1])): os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "change"], check=False)
    with pytest.raises(InputError, match="no such folder; a run died before it had finished it"):
        verify(tmp_path / "change")


def test_only_some_products(tmp_path, tiny_bundle):
    scene = synthetic.write_raster(
        tmp_path / "scene.tif", synthetic.digital_numbers((60, 60)), nodata=0
    )
    for product in ("mask", "probability", "polygons", "report"):
        run(scene, tmp_path / product, tiny_bundle, products=product)
        assert verify(tmp_path / product) == []
