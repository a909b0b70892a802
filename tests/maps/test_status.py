"""How far a run is, read from its folder."""

from __future__ import annotations

import json

import pytest

from geoforest.errors import InputError
from geoforest.io.locks import exclusive_lock
from geoforest.maps.status import status
from tests.helpers.jobs import run


@pytest.fixture
def folder(scene_path, tmp_path, tiny_bundle):
    return run(scene_path, tmp_path / "out", tiny_bundle, keep_work=True).folder


def unpublish(folder) -> None:
    """Bring a folder into the state of a run that has not come to its products."""
    work = json.loads((folder / ".geoforest-work" / "job.json").read_text())
    del work["outputs"]
    (folder / ".geoforest-work" / "job.json").write_text(json.dumps(work))
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()


def test_done(folder, tmp_path):
    for where in (folder, tmp_path / "out"):
        (one,) = status(where)
        assert (one.state, one.shards, one.finished_shards) == ("done", 4, 4)
        assert one.failures == {}
        assert one.seconds_left is None


def test_stopped(folder):
    unpublish(folder)
    next((folder / ".geoforest-work" / "shards").glob("r*.tif")).unlink()
    (one,) = status(folder)
    assert (one.state, one.shards, one.finished_shards) == ("stopped", 4, 3)


def test_running(folder):
    unpublish(folder)
    work = folder / ".geoforest-work"
    note = json.loads((work / "progress.json").read_text())
    note |= {"started": 1000.0, "updated": 1010.0, "failures": {"r00000_c00000": "no bytes"}}
    note["windows"] = {"planned": 120, "finished": 40, "before": 20}
    (work / "progress.json").write_text(json.dumps(note))
    next((work / "shards").glob("r*.tif")).unlink()
    with exclusive_lock(work):
        (one,) = status(folder)
        assert one.state == "running"
        assert one.windows_per_second == 2.0
        # It was noted long ago: nothing is left of the 40 seconds.
        assert one.seconds_left == 0
        assert one.failures == {"r00000_c00000": "no bytes"}
        # Looking does not take the folder away.
        assert status(folder)[0].state == "running"
    assert status(folder)[0].state == "stopped"


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match="holds no map"):
        status(tmp_path)
    with pytest.raises(InputError, match="holds no map"):
        status(tmp_path / "absent")
