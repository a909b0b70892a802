"""What somebody edited in the folder of a map is kept when the map is made again, and said."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from geoforest.errors import GeoforestWarning
from geoforest.maps.verify.run import verify
from tests.helpers import synthetic
from tests.helpers.databases import edit, edit_into_log, files_beside, look
from tests.helpers.jobs import run

EDIT = "UPDATE forest_cover SET model = 'checked by hand' WHERE fid = 1"


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("edited")
    return synthetic.write_raster(
        folder / "scene.tif", synthetic.digital_numbers((100, 120)), nodata=0
    )


@pytest.fixture(scope="module")
def made(scene, tiny_bundle, tmp_path_factory) -> Path:
    return run(scene, tmp_path_factory.mktemp("out"), tiny_bundle).folder


@pytest.fixture
def out(made, tmp_path) -> Path:
    shutil.copytree(made, tmp_path / "out" / made.name)
    return tmp_path / "out"


def models(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as database:
        return {row[0] for row in database.execute("SELECT model FROM forest_cover")}


def test_looking_at_a_map_changes_nothing(scene, tiny_bundle, out):
    folder = out / "scene"
    look(folder / "forest.gpkg")
    with pytest.warns(GeoforestWarning, match=r"forest\.gpkg: was opened .*, content unchanged"):
        assert verify(out) == []
    stamps = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    made = json.loads((folder / "summary.json").read_text())
    assert run(scene, out, tiny_bundle).summary["created"] == made["created"]
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == stamps


@pytest.mark.parametrize("change", [edit, edit_into_log])
def test_an_edited_geopackage_is_kept(scene, tiny_bundle, out, change):
    folder = out / "scene"
    path = folder / "forest.gpkg"
    ours = path.read_bytes()
    change(path, EDIT)
    (problem,) = verify(out)
    assert problem.path == path
    assert ("-wal beside it holds edits" in problem.what) == (change is edit_into_log)
    for again, kept in enumerate(("forest_edited.gpkg", "forest_edited_2.gpkg")):
        result = run(scene, out, tiny_bundle, min_area_ha=0.7 * again)
        assert result.summary["reused_shards"] == result.summary["shards"]
        note = f"{path}: was edited since it was made; the edited file was kept as {kept}"
        assert note in result.summary["notes"]
        assert "checked by hand" in models(folder / kept)
        assert "checked by hand" not in models(path)
        assert files_beside(path) == ["forest.gpkg"]
        assert verify(out) == []
        if not again:
            assert path.read_bytes() == ours
            change(path, EDIT)


def test_an_edit_beside_a_record_that_is_lost(scene, tiny_bundle, out):
    folder = out / "scene"
    (folder / "job.json").unlink()
    run(scene, out, tiny_bundle, overwrite=True)
    assert not list(folder.glob("*_edited*"))
    (folder / "job.json").unlink()
    edit(folder / "forest.gpkg", EDIT, "UPDATE gpkg_contents SET last_change = '2026-01-01'")
    run(scene, out, tiny_bundle, overwrite=True)
    assert "checked by hand" in models(folder / "forest_edited.gpkg")


def test_a_project_and_a_page_that_were_edited_are_kept(scene, tiny_bundle, out):
    folder = out / "scene"
    for name in ("forest.qgz", "report.html"):
        (folder / name).write_bytes(b"mine")
    (folder / "forest_mask.tif.aux.xml").write_bytes(b"<statistics/>")
    (folder / "forest_mask.qml").write_bytes(b"")
    result = run(scene, out, tiny_bundle, overwrite=True, threshold=0.6)
    assert (folder / "forest_edited.qgz").read_bytes() == b"mine"
    assert (folder / "report_edited.html").read_bytes() == b"mine"
    assert sum("was edited" in note for note in result.summary["notes"]) == 2
    assert len(list(folder.glob("*_edited*"))) == 2
    assert verify(out) == []
