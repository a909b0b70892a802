"""Single bits that flip, at random places of each file: `verify` tells of each."""

from __future__ import annotations

import random
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
import shapely

from geoforest import map_change, mosaic_maps
from geoforest.maps.verify.run import verify
from tests.helpers.maps import write_map

GROUND = {"epsg": 32720, "left": 500_000, "top": 9_700_000, "shape": (60, 80), "size": 40.0}
FOREST = shapely.box(-63.0, -2.7200, -62.9955, -2.7125)
CLEARED = shapely.box(-62.9990, -2.7180, -62.9970, -2.7160)
ROUNDS = 12
# Styles, which change no number and no pixel, and the empty file that is locked.
UNCHECKED = {"forest_mask_20S.qml", "forest_probability_20S.qml", "lock"}


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_bundle) -> Path:
    home = tmp_path_factory.mktemp("made")
    products = {"products": "mask,probability,polygons,report"}
    early = write_map(home / "maps", "early", tiny_bundle.path, [FOREST], **products, **GROUND)
    late = write_map(
        home / "maps", "late", tiny_bundle.path, [FOREST - CLEARED],
        acquired=datetime(2024, 9, 1, 14, tzinfo=UTC), **GROUND,
    )  # fmt: skip
    map_change(early, late, home / "change")
    mosaic_maps([early, late], home / "mosaic")
    early.rename(home / "map")
    return home


def flipped(data: bytes, rng: random.Random) -> bytes:
    place, bit = rng.randrange(len(data)), 1 << rng.randrange(8)
    return data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]


@pytest.mark.parametrize("kind", ["map", "change", "mosaic"])
def test_flips_in_all_files(made, tmp_path, kind):
    folder = Path(shutil.copytree(made / kind, tmp_path / kind))
    assert verify(folder) == []
    paths = [one for one in folder.rglob("*") if one.is_file() and one.name not in UNCHECKED]
    records = {"job.json", "change.json", "mosaic.json", "tile.json"}
    sound = {path: path.read_bytes() for path in paths if path.name not in records}
    for seed in range(ROUNDS):
        rng = random.Random(seed)
        for path, data in sound.items():
            path.write_bytes(flipped(data, rng))
        told = {str(problem.path) for problem in verify(folder)}
        assert {str(path) for path in sound} <= told, seed
    for path, data in sound.items():
        path.write_bytes(data)


# A changed digit of a file's checksum leaves that of its content, by which it counts as opened.
@pytest.mark.filterwarnings("ignore:.*was opened by another program")
@pytest.mark.parametrize(
    ("kind", "name"),
    [("map", "job.json"), ("change", "change.json"), ("mosaic", "mosaic.json"),
     ("mosaic", "tile.json")],
)  # fmt: skip
def test_flips_in_records(made, tmp_path, kind, name):
    folder = Path(shutil.copytree(made / kind, tmp_path / kind))
    (path,) = folder.rglob(name)
    data = path.read_bytes()
    rng = random.Random(1)
    for _ in range(40):
        path.write_bytes(flipped(data, rng))
        assert verify(folder), path.read_bytes()
    path.write_bytes(data)
    assert verify(folder) == []
