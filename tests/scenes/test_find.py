"""Which scenes lie in a folder or a bucket."""

from __future__ import annotations

import json

import pytest

from geoforest.errors import InputError
from geoforest.scenes.find import find_scenes
from tests.helpers.servers import s3_bucket, s3_server


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_rasters_folders_of_bands_products_and_items_are_scenes(tmp_path):
    product = "S2A_MSIL2A_20200801T142741_N0214_R053_T20LMR_20200801T165243"
    touch(
        tmp_path,
        "b.tif",
        "a.TIFF",
        "bands/B02.tif",
        "bands/B03.tif",
        f"{product}.SAFE/MTD_MSIL2A.xml",
    )
    item = {"type": "Feature", "stac_version": "1.1.0"}
    (tmp_path / "item.json").write_text(json.dumps(item))
    touch(
        tmp_path,
        ".hidden.tif",
        "b.tif.aux.xml",
        "notes.txt",
        "empty/readme.md",
        "copy.tif.part",
        "empty.json",
    )
    (tmp_path / "aoi.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    found = find_scenes(str(tmp_path))
    assert found == {
        name: str(tmp_path / file)
        for name, file in {
            product: f"{product}.SAFE",
            "a": "a.TIFF",
            "b": "b.tif",
            "bands": "bands",
            "item": "item.json",
        }.items()
    }


def test_a_folder_that_is_not_there_and_one_id_twice(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        find_scenes(str(tmp_path / "none"))
    touch(tmp_path, "a.tif", "a.jp2")
    with pytest.raises(InputError, match="has the scene id of"):
        find_scenes(str(tmp_path))


def test_archives_and_items_of_what_lies_beside_them_are_the_same_scene(tmp_path):
    product = "S2A_MSIL2A_20200801T142741_N0214_R053_T20LMR_20200801T165243"
    touch(tmp_path, "a.tif", f"{product}.SAFE/MTD_MSIL2A.xml", f"{product}.zip")
    item = {"type": "Feature", "stac_version": "1.1.0"}
    (tmp_path / "a.json").write_text(json.dumps(item))
    assert find_scenes(str(tmp_path)) == {
        product: str(tmp_path / f"{product}.SAFE"),
        "a": str(tmp_path / "a.tif"),
    }


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_a_bucket(monkeypatch):
    with s3_server() as address:
        client = s3_bucket(monkeypatch, address, "scenes")
        for key in ("new/a.tif", "new/bands/B04.jp2", "new/notes.txt", "old/b.tif"):
            client.put_object(Bucket="scenes", Key=key, Body=b"")
        assert find_scenes("s3://scenes/new") == {
            "a": "s3://scenes/new/a.tif",
            "bands": "s3://scenes/new/bands",
        }
