"""A finished shard proves itself; anything else is not a finished shard."""

from __future__ import annotations

import random

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from geoforest.arrays.georef import GeoRef
from geoforest.arrays.grid import Grid
from geoforest.arrays.reflectance import BandStatistics
from geoforest.errors import OutputError
from geoforest.io.locks import exclusive_lock
from geoforest.io.storage import write_durably
from geoforest.pipeline.shard_store import Receipt, ShardStore
from tests.helpers import synthetic
from tests.helpers.mutations import damaged

SHARDS = list(Grid((90, 70), window=32, halo=0, shard_cores=2).shards())
GEOREF = GeoRef((64, 64), synthetic.TRANSFORM, rasterio.CRS.from_epsg(32720))


def stored(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 251, (64, 64)).astype(np.uint8)


def receipt() -> Receipt:
    statistics = BandStatistics(5, [0.1, 1e300], [1 / 3, 2.0])
    return Receipt("r00000_c00000", 4, 4096, [1] * 256, 7, statistics, {"read": 0.1})


@pytest.fixture
def store(tmp_path) -> ShardStore:
    store = ShardStore(tmp_path / "work", "a" * 64)
    (store.folder / "shards").mkdir(parents=True)
    store.write(SHARDS[0], stored(), receipt(), georef=GEOREF)
    return store


def test_round_trip(store):
    pixels, told = store.load(SHARDS[0])
    assert (pixels == stored()).all()
    assert told == receipt()
    with rasterio.open(store.path(SHARDS[0])) as source:
        assert source.transform == synthetic.TRANSFORM
    assert [path.name for path in (store.folder / "shards").iterdir()] == ["r00000_c00000.tif"]


def test_absent_and_misplaced_shards(store):
    assert store.load(SHARDS[1]) is None
    store.path(SHARDS[0]).rename(store.path(SHARDS[1]))
    assert store.load(SHARDS[1]) is None


def test_shards_of_another_job(store):
    assert ShardStore(store.folder, "b" * 64).load(SHARDS[0]) is None


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_never_passes_for_the_shard(tmp_path_factory, place, bit):
    store = ShardStore(tmp_path_factory.mktemp("flip"), "a" * 64)
    (store.folder / "shards").mkdir()
    store.write(SHARDS[0], stored(), receipt(), georef=GEOREF)
    path = store.path(SHARDS[0])
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    path.write_bytes(data)
    loaded = store.load(SHARDS[0])
    assert loaded is None or ((loaded[0] == stored()).all() and loaded[1] == receipt())


@pytest.mark.filterwarnings("ignore")  # of what GDAL thinks of such files
def test_a_damaged_header_never_passes_and_promises_nothing(store):
    path = store.path(SHARDS[0])
    data = path.read_bytes()
    for seed in range(150):
        path.unlink()
        path.write_bytes(damaged(data, slice(0, 500), random.Random(seed)))
        loaded = store.load(SHARDS[0])
        assert loaded is None or (loaded[0] == stored()).all(), seed


def test_a_damaged_preview_is_none(store):
    dn, valid = np.arange(60, dtype=np.uint16).reshape(4, 3, 5), np.ones((3, 5), bool)
    store.write_preview(SHARDS[0], dn, valid)
    found = store.load_preview(SHARDS[0])
    assert found is not None
    assert (found[0] == dn).all()
    path = store.path(SHARDS[0]).with_suffix(".npz")
    data = path.read_bytes()
    for seed in range(100):
        path.write_bytes(damaged(data, slice(None), random.Random(seed)))
        assert store.load_preview(SHARDS[0]) is None or path.read_bytes() == data, seed


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99])
def test_a_cut_file_never_passes(store, kept):
    path = store.path(SHARDS[0])
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    assert store.load(SHARDS[0]) is None


def test_the_lock_is_the_operating_systems(store):
    folder = store.folder
    with (
        exclusive_lock(folder),
        pytest.raises(OutputError, match="another geoforest run"),
        exclusive_lock(folder),
    ):
        pass
    # A lock file left behind by a dead run is no lock.
    assert (folder / "lock").exists()
    with exclusive_lock(folder):
        pass


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_durably(path, b"old")
    with pytest.raises(TypeError):
        write_durably(path, "text")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
