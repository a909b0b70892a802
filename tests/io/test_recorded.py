"""Files of an earlier run: as written, opened by another program, or edited, and then kept."""

from __future__ import annotations

from pathlib import Path

import geopandas
import pyogrio
import pytest
from shapely import box

from geoforest.errors import GeoforestWarning
from geoforest.io.geopackage import write_geopackage
from geoforest.io.recorded import record_of, replace_if_other, state_of
from tests.helpers.databases import edit, edit_into_log, files_beside, look

EDIT = "UPDATE forest_cover SET name = 'mine'"
# What GDAL, and so QGIS, does with each edit.
STAMP = "UPDATE gpkg_contents SET last_change = '2026-01-01T00:00:00.000Z'"


def write(path: Path, name: str = "ours") -> Path:
    frame = geopandas.GeoDataFrame({"name": [name]}, geometry=[box(0, 0, 1, 1)], crs=32720)
    write_geopackage([frame], path)
    return path


def names(path: Path) -> list[str]:
    return geopandas.read_file(path, layer="forest_cover")["name"].tolist()


def test_states(tmp_path):
    path = write(tmp_path / "a.gpkg")
    recorded = record_of(path)
    assert recorded.keys() == {"sha256", "bytes", "content_sha256"}
    assert state_of(path, recorded) == "as written"
    look(path)
    assert state_of(path, recorded) == "opened"
    edit_into_log(path, EDIT)
    assert state_of(path, recorded) == "changed"
    path.with_name("a.gpkg-wal").unlink()
    assert state_of(path, recorded) == "opened"
    edit(path, EDIT)
    assert state_of(path, recorded) == "changed"
    path.write_bytes(b"SQLite format 3\0" + b"\2" * 200)
    assert state_of(path, recorded) == "changed"


def test_records_of_an_earlier_version(tmp_path):
    path = write(tmp_path / "a.gpkg")
    recorded = {"sha256": record_of(path)["sha256"]}
    assert state_of(path, recorded) == "as written"
    path.with_name("a.gpkg-wal").touch()
    assert state_of(path, recorded) == "opened"
    edit_into_log(path, EDIT)
    assert state_of(path, recorded) == "changed"
    text = tmp_path / "a.csv"
    text.write_text("a")
    assert state_of(text, record_of(text)) == "as written"
    text.write_text("b")
    assert state_of(text, {"sha256": "0"}) == "changed"


@pytest.mark.parametrize("change", [edit, edit_into_log])
def test_an_edited_geopackage_is_kept_when_it_is_replaced(tmp_path, change):
    path = write(tmp_path / "a.gpkg")
    for place, kept in enumerate(("a_edited.gpkg", "a_edited_2.gpkg")):
        change(path, EDIT, STAMP)
        with pytest.warns(GeoforestWarning, match=rf"a\.gpkg: was edited .* kept as {kept}$"):
            write(path, f"new {place}")
        assert names(path) == [f"new {place}"]
        assert names(tmp_path / kept) == ["mine"]
        assert files_beside(path) == ["a.gpkg"]
    write(path, "again")
    assert len(list(tmp_path.iterdir())) == 3


def test_an_edit_by_gdal(tmp_path):
    path = write(tmp_path / "a.gpkg")
    frame = geopandas.read_file(path, layer="forest_cover").assign(name="mine")
    pyogrio.write_dataframe(frame, path, layer="forest_cover", append=True)
    with pytest.warns(GeoforestWarning, match="was edited"):
        write(path)
    assert names(tmp_path / "a_edited.gpkg") == ["ours", "mine"]


def test_replace_if_other(tmp_path):
    path = write(tmp_path / "a.gpkg")
    look(path)
    assert not replace_if_other(path, lambda new: write(new) and None)
    edit_into_log(path, EDIT, STAMP)
    with pytest.warns(GeoforestWarning, match=r"a\.gpkg: was edited"):
        assert replace_if_other(path, lambda new: write(new) and None)
    assert names(path) == ["ours"]
    assert names(tmp_path / "a_edited.gpkg") == ["mine"]
    assert files_beside(path) == ["a.gpkg"]
    assert replace_if_other(tmp_path / "b.txt", lambda new: new.write_text("b") and None)
    assert not replace_if_other(tmp_path / "b.txt", lambda new: new.write_text("b") and None)
