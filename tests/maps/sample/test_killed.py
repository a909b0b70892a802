"""A sample is killed at each step of being drawn."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import shapely

from geoforest.errors import OutputError
from geoforest.maps.sample.draw import draw_sample
from geoforest.maps.sample.file import read_sample
from tests.helpers.kills import survive_each_kill
from tests.helpers.maps import write_map

GROUND = {"epsg": 32720, "left": 500_000, "top": 9_700_000, "shape": (60, 80)}
FOREST = shapely.box(-63.0, -2.7200, -62.9955, -2.7125)


class Drawing:
    """A sample with a picture and a project."""

    def __init__(self, folder: Path) -> None:
        self.home, self.out = folder, folder / "sample.gpkg"
        (self.map,) = (folder.parent / "maps").iterdir()
        self.count = 0

    def prepare(self) -> None:
        shutil.rmtree(self.home)
        self.home.mkdir()

    def act(self) -> None:
        draw_sample(self.map, 20, self.out, min_per_stratum=5)

    def check(self) -> None:
        self.count += 1
        if self.out.exists():
            # It has its picture and its project, and is never drawn again.
            assert self.out.with_suffix(".qgz").exists()
            assert len(read_sample(self.out).points) == 20
            with pytest.raises(OutputError, match="may hold labels"):
                self.act()
        elif self.count % 5 == 0 or any(self.home.glob("sample*")):
            self.act()
            assert len(read_sample(self.out).points) == 20
            assert all(path.name.startswith("sample") for path in self.home.iterdir())


@pytest.mark.slow
def test_the_next_run_draws_it_or_it_is_whole(tmp_path, tiny_bundle):
    write_map(tmp_path / "maps", "one", tiny_bundle.path, [FOREST], **GROUND)
    (tmp_path / "home").mkdir()
    assert survive_each_kill(Drawing, tmp_path / "home") > 8


def test_files_of_somebody_else_are_not_touched(tmp_path, tiny_bundle):
    folder = write_map(tmp_path / "maps", "one", tiny_bundle.path, [FOREST], **GROUND)
    (tmp_path / "sample.qgz").write_text("mine")
    with pytest.raises(OutputError, match="is another project"):
        draw_sample(folder, 20, tmp_path / "sample.gpkg", min_per_stratum=5)
    assert (tmp_path / "sample.qgz").read_text() == "mine"
