"""The command that compares two maps."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from tests.helpers.maps import write_map


def test_change(geoforest, tiny_bundle, tmp_path):
    ground = {"epsg": 32720, "left": 500_000, "top": 9_700_000, "shape": (64, 64)}
    early = write_map(tmp_path / "maps", "a", tiny_bundle.path, [], **ground)
    acquired = datetime(2025, 1, 1, tzinfo=UTC)
    late = write_map(tmp_path / "maps", "b", tiny_bundle.path, [], acquired=acquired, **ground)
    done = geoforest("change", early, late, "--out", tmp_path / "change")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("0.0 ha lost, 0.0 ha gained")
    again = geoforest("change", early, late, "--out", tmp_path / "change", "--json")
    assert json.loads(again.stdout)["hectares"]["loss"] == 0
    wrong = geoforest("change", late, early, "--out", tmp_path / "other")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("geoforest: ")
    assert not (tmp_path / "other").exists()
