"""``geoforest map --check-halo``, as a user gives it."""

from __future__ import annotations

import json


def test_check_halo(geoforest, scene_path, tiny_bundle, tmp_path):
    command = ["map", scene_path, "--out", tmp_path / "out", "--model", tiny_bundle.path]
    done = geoforest(*command, "--halo", 8, "--check-halo", "--json", "--runtime", "torch")
    assert done.returncode == 0, done.stderr
    test = json.loads(done.stdout)["quality"]["halo_test"]
    # 4 x 4 cores of 48 px.
    assert (test["halo"], test["cores"]) == (16, 16)
    # A network of random weights that sees all of its window.
    assert 0 < test["mean_difference"] < 1


def test_a_window_without_room(geoforest, scene_path, tiny_bundle, tmp_path):
    command = ["map", scene_path, "--out", tmp_path / "out", "--model", tiny_bundle.path]
    done = geoforest(*command, "--halo", 16, "--check-halo")
    assert done.returncode == 2
    assert "--check-halo: twice the halo, 32 px, leaves no core in a window of 64" in done.stderr
    assert not (tmp_path / "out").exists()
