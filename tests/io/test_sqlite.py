"""Databases are read whole: with the log beside them, and from folders nobody may write to."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import geopandas
import pytest
from shapely import box

from geoforest.errors import InputError
from geoforest.io.geopackage import layers
from geoforest.io.polygon_files import read_outline
from geoforest.io.sqlite import content_sha256, read_database, settled
from geoforest.maps.units.read import read_units
from tests.helpers.databases import edit, edit_into_log, files_beside, look

RENAME = "UPDATE z SET name = 'renamed' WHERE name = 'E'"


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "folder" / "z.gpkg"
    path.parent.mkdir()
    frame = geopandas.GeoDataFrame(
        {"name": ["W", "E"]}, geometry=[box(0, 0, 1, 1), box(1, 0, 2, 1)], crs=32720
    )
    frame.to_file(path, layer="z")
    return path


def names(path: Path) -> list[str]:
    return read_units(path, "name").frame["unit"].tolist()


def test_a_log_beside_is_read_and_left_as_it_is(path):
    edit_into_log(path, RENAME)
    before = {name: (path.parent / name).read_bytes() for name in files_beside(path)}
    assert list(before) == ["z.gpkg", "z.gpkg-wal"]
    assert names(path) == ["W", "renamed"]
    assert read_units(path, "name").notes == ()
    assert len(read_outline(path).polygons) == 2
    assert layers(path) == ["z"]
    assert before == {name: (path.parent / name).read_bytes() for name in files_beside(path)}


def test_a_database_without_its_log_is_read_and_said(path):
    edit_into_log(path, RENAME)
    path.with_name("z.gpkg-wal").unlink()
    assert names(path) == ["E", "W"]
    for notes in (read_units(path, "name").notes, read_outline(path).notes):
        (note,) = notes
        assert "z.gpkg: was left in SQLite's WAL mode, and z.gpkg-wal is not beside it" in note
    assert files_beside(path) == ["z.gpkg"]
    path.with_name(
        "z.gpkg-wal"
    ).touch()  # emptied into the database by the program that has it open
    assert read_units(path, "name").notes == ()


AS_NOBODY = """
import os, sys
from geoforest.maps.units.read import read_units
names = [f"{sys.argv[1]}/{name}.gpkg" for name in ("logged", "alone")]
read_units(names[0], "name")  # loads what nobody may not read
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
assert not os.access(sys.argv[1], os.W_OK)
for name in names:
    units = read_units(name, "name")
    print(units.frame["unit"].tolist(), len(units.notes))
"""


def test_in_a_folder_that_one_may_not_write_to(path):
    """Without the rights of root, to whom no folder is closed."""
    edit_into_log(path, RENAME)
    with TemporaryDirectory() as name:
        folder = Path(name) / "closed"
        folder.mkdir()
        for one, other in (("", "logged"), ("-wal", "logged"), ("", "alone")):
            shutil.copy(f"{path}{one}", folder / f"{other}.gpkg{one}")
        for one in folder.iterdir():
            one.chmod(0o444)
        folder.parent.chmod(0o755)
        folder.chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, folder], capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        folder.chmod(0o755)
    assert done.stdout.splitlines() == ["['W', 'renamed'] 0", "['E', 'W'] 1"], done.stderr


def test_a_damaged_log_and_a_damaged_database(path, tmp_path):
    edit_into_log(path, RENAME)
    log = path.with_name("z.gpkg-wal")
    log.write_bytes(b"no log")
    assert names(path) == ["E", "W"]
    data = bytearray(path.read_bytes())
    data[100:4000] = b"x" * 3900
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"z\.gpkg: is damaged as a database"), settled(path):
        pass
    with (
        pytest.raises(InputError, match=r"none\.gpkg: cannot be read"),
        settled(tmp_path / "none.gpkg"),
    ):
        pass


def test_content_is_what_features_say(path):
    before = content_sha256(path)
    look(path)
    assert content_sha256(path) == before
    edit_into_log(path, "UPDATE z SET name = name")
    with read_database(path) as database:
        assert database.execute("SELECT count(*) FROM z").fetchone() == (2,)
    path.with_name("z.gpkg-wal").unlink()
    assert content_sha256(path) == before
    edit(path, RENAME)
    assert content_sha256(path) != before
