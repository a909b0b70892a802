"""A comparison that replaces another one is killed at each of its steps."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
import shapely

from geoforest import map_change
from geoforest.maps.verify.run import verify
from tests.helpers.kills import survive_each_kill
from tests.helpers.maps import write_map

GROUND = {"epsg": 32720, "left": 500_000, "top": 9_700_000, "shape": (60, 80)}
FOREST = shapely.box(-63.0, -2.7200, -62.9955, -2.7125)
CLEARED = shapely.box(-62.9990, -2.7180, -62.9970, -2.7160)


class Replacing:
    """A comparison with another margin, over an earlier one."""

    def __init__(self, folder: Path) -> None:
        self.home, self.out, self.old = folder, folder / "change", folder.parent / "old"
        self.maps = sorted((folder.parent / "maps").iterdir())
        self.count = 0

    def prepare(self) -> None:
        shutil.rmtree(self.home)
        self.home.mkdir()
        shutil.copytree(self.old, self.out)

    def act(self) -> None:
        map_change(*self.maps, self.out, margin=0)

    def check(self) -> None:
        assert verify(self.out) == []
        margin = json.loads((self.out / "change.json").read_text())["margin"]
        assert margin in (0, 0.1)
        self.count += 1
        if self.count % 8 == 0 or margin == 0:
            self.act()
            assert verify(self.out) == []
            assert [path.name for path in self.home.iterdir()] == ["change"]


@pytest.mark.slow
def test_the_old_or_the_new_one_is_whole_and_the_next_run_succeeds(tmp_path, tiny_bundle):
    dates = [datetime(2024, month, 1, 14, tzinfo=UTC) for month in (7, 9)]
    forest = [FOREST, FOREST - CLEARED]
    maps = [
        write_map(
            tmp_path / "maps", name, tiny_bundle.path, [trees], acquired=date, **GROUND
        )
        for name, trees, date in zip(("early", "late"), forest, dates, strict=True)
    ]  # fmt: skip
    map_change(*maps, tmp_path / "old")
    (tmp_path / "home").mkdir()
    assert survive_each_kill(Replacing, tmp_path / "home") > 10
