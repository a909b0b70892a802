"""URLs on the command line: taken as they are, and never told whole."""

from __future__ import annotations

import json

import pytest

from tests.helpers.servers import file_server

SECRET = "s1gnature"


def test_a_signed_url(geoforest, scene_path, tiny_bundle, tmp_path):
    with file_server() as web:
        web.files["/T20LMR.tif"] = scene_path.read_bytes()
        options = ["--model", tiny_bundle.path, "--halo", 8, "--runtime", "torch"]
        url = f"{web.url}/T20LMR.tif?sig={SECRET}&a[0]=*"
        done = geoforest("map", url, "--out", tmp_path / "out", *options, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scene_id"] == "T20LMR"
    assert SECRET not in done.stdout + done.stderr
    for path in (tmp_path / "out").rglob("*.json"):
        assert SECRET not in path.read_text()


@pytest.mark.parametrize("scenes", [1, 2])
def test_scenes_that_are_not_there(geoforest, tiny_bundle, tmp_path, scenes):
    with file_server() as web:
        urls = [f"{web.url}/{number}.tif?sig={SECRET}" for number in range(scenes)]
        done = geoforest(
            "map", *urls, "--out", tmp_path / "out", "--model", tiny_bundle.path, "--json"
        )
    assert done.returncode == 2
    assert f"geoforest: {web.url}/0.tif: the server answers 404: no such file" in done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("s3://maps/a.tif", "--out", "a.gpkg"),
        ("a.tif", "--out", f"https://host/a.gpkg?sig={SECRET}"),
    ],
)
def test_vectorize_is_for_files_on_disk(geoforest, arguments):
    done = geoforest("vectorize", *arguments)
    assert done.returncode == 2
    assert "is a URL; vectorize reads and writes files on disk" in done.stderr
    assert SECRET not in done.stderr
