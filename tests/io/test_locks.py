"""Folders on file systems that cannot lock: one run at a time on this machine, and whole files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from geoforest.errors import OutputError
from geoforest.io.locks import exclusive_lock, is_locked, locks_records
from tests.helpers import synthetic
from tests.helpers.unlockable import without_locks

TRIAL = """
import json, sys, warnings
from pathlib import Path
import geopandas, shapely
from geoforest.errors import OutputError
from geoforest.io.geopackage import layers, write_geopackage
from geoforest.io.locks import exclusive_lock, is_locked, locks_records

folder = Path(sys.argv[1])
found = {"records": locks_records(folder), "before": is_locked(folder)}
with warnings.catch_warnings(record=True) as caught, exclusive_lock(folder):
    found["held"] = is_locked(folder)
    try:
        with exclusive_lock(folder):
            pass
    except OutputError as error:
        found["second"] = str(error)
found["told"] = str(caught[0].message)
found["after"] = is_locked(folder)
frame = geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)], crs=32720)
write_geopackage([frame], folder / "forest.gpkg")
found["layers"] = layers(folder / "forest.gpkg")
found["files"] = sorted(path.name for path in folder.iterdir())
print(json.dumps(found))
"""


@pytest.fixture
def share(tmp_path: Path) -> Path:
    (tmp_path / "share").mkdir()
    return tmp_path / "share"


def test_a_share_that_cannot_lock(tmp_path: Path, share: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRIAL, str(share)],
        env={**os.environ, **without_locks(tmp_path, share)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert not found["records"]
    assert [found[when] for when in ("before", "held", "after")] == [False, True, False]
    assert found["told"].startswith(f"{share}: this file system cannot lock (No locks available);")
    assert found["second"].startswith(f"{share}: another geoforest run is writing here")
    assert found["layers"] == ["forest_cover"]
    assert found["files"] == ["forest.gpkg", "lock"]


@pytest.mark.slow
def test_a_map_on_a_share_that_cannot_lock(tmp_path: Path, share: Path, tiny_bundle) -> None:
    scene = synthetic.write_raster(
        tmp_path / "scene.tif", synthetic.digital_numbers((64, 64)), nodata=0
    )
    command = [sys.executable, "-m", "geoforest", "map", scene, "--out", share]
    command += ["--model", tiny_bundle.path, "--runtime", "torch", "--halo", 8]
    done = subprocess.run(
        list(map(str, command)),
        env={**os.environ, **without_locks(tmp_path, share)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("this file system cannot lock") == 1
    assert "Traceback" not in done.stderr
    assert (share / "scene" / "forest.gpkg").stat().st_size > 0
    verify = [sys.executable, "-m", "geoforest", "verify", share / "scene"]
    checked = subprocess.run(
        list(map(str, verify)),
        env={**os.environ, **without_locks(tmp_path, share)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_disk_that_can(share: Path, recwarn: pytest.WarningsRecorder) -> None:
    assert locks_records(share)
    assert not is_locked(share)
    with exclusive_lock(share):
        assert is_locked(share)
        with pytest.raises(OutputError, match="another geoforest run"), exclusive_lock(share):
            pass
    assert not is_locked(share)
    assert not recwarn.list
    assert sorted(path.name for path in share.iterdir()) == ["lock"]
