"""The command that puts maps together."""

from __future__ import annotations

import json

import shapely

from tests.helpers.maps import write_map


def test_mosaic(geoforest, tiny_bundle, tmp_path):
    ground = {"epsg": 32720, "left": 500_000, "top": 9_700_000, "shape": (64, 64)}
    forest = [shapely.box(-63.0, -2.7145, -62.997, -2.7125)]
    write_map(tmp_path / "maps", "one", tiny_bundle.path, forest, **ground)
    arguments = ["mosaic", tmp_path / "maps", "--out", tmp_path / "basin", "--rule", "latest"]
    done = geoforest(*arguments)
    assert done.returncode == 0, done.stderr
    assert "1 scenes: " in done.stdout
    assert "1 tiles in zones 20S, 1 of them made now" in done.stdout
    again = geoforest(*arguments, "--json")
    assert json.loads(again.stdout)["rewritten"]["tiles"] == []
    wrong = geoforest("mosaic", tmp_path / "none", "--out", tmp_path / "other")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("geoforest: ")
    assert not (tmp_path / "other").exists()
