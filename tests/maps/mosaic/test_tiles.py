"""One tile of a mosaic, made by several workers at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from geoforest.maps.mosaic import tiles
from geoforest.maps.mosaic.plan import plan_tiles, read_map
from tests.helpers.maps import write_map

GROUND = {"epsg": 32720, "left": 500_000, "top": 9_700_000, "shape": (32, 32), "size": 100.0}


@pytest.fixture
def job(tiny_bundle, tmp_path):
    one = write_map(tmp_path / "maps", "one", tiny_bundle.path, [], **GROUND)
    (job,) = plan_tiles([read_map(one)], rule="mean", threshold=0.5, model="m")
    return job


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_two_workers_that_make_one_tile_at_once_end_with_one_whole_tile(job, tmp_path, monkeypatch):
    """The first is cut off half-way, lives on, and ends after or while the second one does."""
    alone = tiles.make_tile(job, tmp_path / "alone" / job.name)
    folder = tmp_path / "tiles" / job.name
    half_way, go_on = threading.Event(), threading.Event()
    write, calls = tiles._write_rasters, iter(range(2))

    def slowly(job, folder):
        made = write(job, folder)
        if next(calls) == 0:
            half_way.set()
            assert go_on.wait(60)
        return made

    monkeypatch.setattr(tiles, "_write_rasters", slowly)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(tiles.make_tile, job, folder)
        assert half_way.wait(60)
        second = pool.submit(tiles.make_tile, job, folder)
        assert second.result(60) == alone
        whole = contents(folder)
        go_on.set()
        assert first.result(60) == alone
    assert whole == contents(folder) == contents(tmp_path / "alone" / job.name)
    assert list(folder.parent.iterdir()) == [folder]


def test_many_workers_that_publish_one_tile_over_another(job, tmp_path, monkeypatch):
    """All wait for each other right before they put their tile in the place of an old one."""
    folder = tmp_path / "tiles" / job.name
    whole = tmp_path / "alone" / job.name
    tiles.make_tile(job, whole)
    folder.mkdir(parents=True)
    (folder / tiles.RECORD_NAME).write_text('{"digest": "another"}')
    n, write = 6, tiles._write_rasters
    together = threading.Barrier(n)

    def at_once(job, folder):
        made = write(job, folder)
        together.wait(60)
        return made

    monkeypatch.setattr(tiles, "_write_rasters", at_once)
    with ThreadPoolExecutor(n) as pool:
        made = [pool.submit(tiles.make_tile, job, folder) for _ in range(n)]
        assert len({one.result(60)["digest"] for one in made}) == 1
    assert contents(folder) == contents(whole)
    assert list(folder.parent.iterdir()) == [folder]
