"""Lists and folders of scenes in which one acquisition is there several times."""

from __future__ import annotations

import json

import pytest

from geoforest.errors import GeoforestWarning
from geoforest.scenes.find import find_scenes
from geoforest.scenes.newest import newest_scenes
from tests.helpers import stac
from tests.helpers.safe import Safe, make_safe, zip_safe
from tests.helpers.servers import file_server
from tests.helpers.synthetic import digital_numbers

NAME = "S2B_MSIL2A_20180813T142729_N{}_R053_T{}_20180813T190000"
OLD, NEW = NAME.format("0206", "20LMR"), NAME.format("0500", "20LMR")
OTHER = NAME.format("0206", "20LNR")
TOLD = "1 scene is left out, replaced by a newer processing of the same acquisition"


def product(folder, baseline, *, outline=None, **changes):
    root = make_safe(folder, digital_numbers((20, 20)), Safe(), baseline=baseline, **changes)
    if outline is not None:
        west, east = outline
        pairs = [(-10, west), (-10, east), (-9, east), (-9, west), (-10, west)]
        text = " ".join(f"{lat} {lon}" for lat, lon in pairs)
        xml = root / "MTD_MSIL2A.xml"
        foot = f"<Product_Footprint><EXT_POS_LIST>{text}</EXT_POS_LIST></Product_Footprint>"
        xml.write_text(xml.read_text().replace("</n1:Level", f"{foot}</n1:Level"))
    return root


def test_products_on_disk(tmp_path):
    old, new = product(tmp_path, "02.06"), product(tmp_path, "05.09")
    other = product(tmp_path, "02.06", tile="20LNR")
    with pytest.warns(GeoforestWarning, match=TOLD):
        assert newest_scenes([old, other, new]) == [other, new]
    with pytest.warns(GeoforestWarning, match=r"baseline 02.06\) by .*baseline 05.09"):
        assert set(find_scenes(str(tmp_path)).values()) == {str(other), str(new)}
    # Archives, of any name, and folders around a product.
    packed = zip_safe(old, tmp_path / "packed.zip")
    around = tmp_path / "around"
    around.mkdir()
    old.rename(around / old.name)
    with pytest.warns(GeoforestWarning, match="2 scenes are left out"):
        assert newest_scenes([str(packed), str(new), str(around)]) == [str(new)]


def test_products_of_the_time_before_names_told(tmp_path):
    old = product(tmp_path, "02.04", old=True)
    new = product(tmp_path, "05.00").rename(tmp_path / "renamed.SAFE")
    with pytest.warns(GeoforestWarning, match=TOLD):
        assert newest_scenes([str(old), str(new)]) == [str(new)]


def test_parts_of_a_tile_are_kept(tmp_path):
    old = product(tmp_path, "02.06", outline=(-63, -62.5))
    new = product(tmp_path, "05.09", outline=(-62.5, -62))
    assert newest_scenes([old, new]) == [old, new]
    whole = product(tmp_path, "05.10", outline=(-63.001, -62.5))
    with pytest.warns(GeoforestWarning, match=TOLD):
        assert newest_scenes([old, new, whole]) == [new, whole]


@pytest.mark.parametrize(
    "form",
    ["in/{}.tif", "s3://bucket/{}/", "https://host/{}.tif?sig=a", "{}"],
)
def test_names_tell(form):
    old, new, other = (form.format(name) for name in (OLD, NEW, OTHER))
    with pytest.warns(GeoforestWarning, match=TOLD) as told:
        assert newest_scenes([new, old, other]) == [new, other]
    assert "sig=a" not in str(told[0].message)


def test_other_names_tell_nothing(tmp_path):
    scenes = ["a.tif", "b.tif", OLD, "", "https://[host/items/x", "gone.json", str(tmp_path)]
    assert newest_scenes(scenes) == scenes


def items(folder):
    """Two items of one acquisition, and one of another tile."""
    for item_id, baseline, tile in (
        ("S2B_20LMR_20230813_0_L2A", "02.14", "20LMR"),
        ("S2B_20LMR_20230813_1_L2A", "05.09", "20LMR"),
        ("S2B_20LNR_20230813_0_L2A", "02.14", "20LNR"),
    ):
        said = {"s2:processing_baseline": baseline, "grid:code": f"MGRS-{tile}"}
        document = stac.item(item_id=item_id, **said, **{"s2:product_uri": None})
        yield stac.write_item(folder, document)


def test_items_on_disk_and_on_the_web(tmp_path):
    paths = [str(path) for path in items(tmp_path)]
    with pytest.warns(GeoforestWarning, match=TOLD):
        assert newest_scenes(paths) == paths[1:]
    with pytest.warns(GeoforestWarning, match=TOLD):
        assert list(find_scenes(str(tmp_path)).values()) == paths[1:]
    with file_server() as server:
        for path in tmp_path.iterdir():
            server.files[f"/{path.name}"] = path.read_bytes()
        urls = [f"{server.url}/{path.rpartition('/')[2]}?key=secret" for path in paths]
        with pytest.warns(GeoforestWarning, match=TOLD) as told:
            assert newest_scenes(urls) == urls[1:]
        assert "secret" not in str(told[0].message)
        # Only those are read that may be one.
        assert len(server.requests) == 2


def test_broken_items_are_left_for_later(tmp_path):
    good = next(items(tmp_path))
    for number, text in enumerate(["{", "[]", json.dumps({"type": "Feature", "properties": {}})]):
        (tmp_path / f"broken{number}.json").write_text(text)
    scenes = [str(good), *map(str, sorted(tmp_path.glob("broken*.json")))]
    assert newest_scenes(scenes) == scenes
