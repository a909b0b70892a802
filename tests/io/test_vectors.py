"""Polygons in three formats read back alike, and stream."""

from __future__ import annotations

import json

import geopandas
import numpy as np
import pandas as pd
import pyarrow.parquet
import pyogrio
import pytest
import shapely
from affine import Affine
from geopandas.testing import assert_geodataframe_equal

from geoforest.arrays.polygons.polygons import polygons_of_mask
from geoforest.errors import InputError, WriteError
from geoforest.io import vectors
from geoforest.io.vectors import FORMATS, write_polygons

TRANSFORM = Affine(10, 0, 500_000, 0, -10, 8_900_000)
ATTRIBUTES = {"scene_id": "S2A_x", "acquired": None, "model": "starter", "threshold": 0.5}


def frame(share: float = 0.6, crs: str | None = "EPSG:32720") -> geopandas.GeoDataFrame:
    mask = (np.random.default_rng(5).random((60, 50)) < share).astype(np.uint8)
    return polygons_of_mask(
        mask, transform=TRANSFORM, crs=crs, min_area_ha=0, attributes=ATTRIBUTES
    ).frame


def pieces(whole: geopandas.GeoDataFrame, size: int) -> list[geopandas.GeoDataFrame]:
    starts = range(0, max(len(whole), 1), size)
    return [whole.iloc[start : start + size].reset_index(drop=True) for start in starts]


def read(path) -> geopandas.GeoDataFrame:
    if path.suffix == ".parquet":
        return geopandas.read_parquet(path)
    return geopandas.read_file(path, layer="forest_cover")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("crs", ["EPSG:32720", None])
@pytest.mark.parametrize("share", [0.6, 0.0])
def test_they_read_back_as_they_were_written(tmp_path, suffix, crs, share):
    written = frame(share, crs)
    path = tmp_path / "new" / f"forest{suffix}"
    write_polygons(iter(pieces(written, 7)), path)
    back = read(path)
    assert back.crs == written.crs
    assert list(back.columns)[: len(written.columns) - 1] == list(written.columns)[:-1]
    assert len(back) == len(written)
    back = back.sort_values(["patch_id"]).reset_index(drop=True)
    wanted = written.sort_values(["patch_id"]).reset_index(drop=True)
    if len(written):
        kept = [name for name in written.columns if name != "acquired"]
        assert_geodataframe_equal(back[kept], wanted[kept], check_dtype=False)
    assert [found.name for found in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", FORMATS)
def test_bytes_do_not_depend_on_how_features_arrive(tmp_path, suffix):
    written = frame()
    one, two = tmp_path / f"one{suffix}", tmp_path / f"two{suffix}"
    write_polygons([written], one)
    write_polygons(pieces(written, 9), two)
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("suffix", FORMATS)
def test_empty_parts_of_a_frame_do_no_harm(tmp_path, suffix):
    """pandas keeps an Arrow chunk of no rows for each empty frame of a concatenation."""
    written = frame()
    parts = [written.iloc[:1], written.iloc[1:1], written.iloc[1:]]
    one, two = tmp_path / f"one{suffix}", tmp_path / f"two{suffix}"
    write_polygons([written], one)
    write_polygons([pd.concat(parts, ignore_index=True)], two)
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_goes_wrong_while_features_are_made_is_told_as_it_is(tmp_path, suffix):
    written = frame()
    path = tmp_path / f"forest{suffix}"
    write_polygons([written], path)
    before = path.read_bytes()

    def failing():
        yield written
        raise InputError("this very sentence")

    with pytest.raises(InputError, match="this very sentence"):
        write_polygons(failing(), path)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_interrupt_stays_one(tmp_path, suffix):
    def interrupted():
        yield from pieces(frame(), 9)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_polygons(interrupted(), tmp_path / f"forest{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_folder_with_an_exclamation_mark(tmp_path, suffix):
    written = frame()
    path = tmp_path / "ba!d" / f"forest{suffix}"
    write_polygons([written], path)
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    # pyogrio takes what follows the mark for a path into an archive.
    plain = path.rename(tmp_path / f"forest{suffix}")
    assert len(read(plain)) == len(written)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path, suffix):
    (tmp_path / "taken").write_text("x")
    with pytest.raises(WriteError, match="taken"):
        write_polygons([frame()], tmp_path / "taken" / f"forest{suffix}")


def test_geoparquet_says_what_its_standard_wants(tmp_path, monkeypatch):
    monkeypatch.setattr(vectors, "_GROUP_ROWS", 40)
    path = tmp_path / "forest.parquet"
    written = frame()
    write_polygons(pieces(written, 25), path)
    file = pyarrow.parquet.ParquetFile(path)
    assert file.num_row_groups > 1
    geo = json.loads(file.metadata.metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    column = geo["columns"][geo["primary_column"]]
    assert column["encoding"] == "WKB"
    assert column["geometry_types"] == ["Polygon"]
    assert column["orientation"] == "counterclockwise"
    assert column["bbox"] == written.total_bounds.tolist()
    assert column["crs"]["id"] == {"authority": "EPSG", "code": 32720}
    left, top = TRANSFORM.c, TRANSFORM.f
    box = (left + 100, top - 200, left + 200, top - 100)
    part = geopandas.read_parquet(path, bbox=box)
    assert 0 < len(part) < len(written)
    wanted = written[shapely.intersects(shapely.box(*box), written.geometry.to_numpy())]
    assert set(wanted["patch_id"]) <= set(part["patch_id"])


def test_flatgeobuf_has_an_index(tmp_path):
    path = tmp_path / "forest.fgb"
    written = frame()
    write_polygons([written], path)
    box = (500_100, 8_899_800, 500_200, 8_899_900)
    assert pyogrio.read_info(path)["capabilities"]["fast_spatial_filter"]
    assert 0 < len(geopandas.read_file(path, bbox=box)) < len(written)
