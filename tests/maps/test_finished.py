"""Maps fetched from a bucket: whole, or not taken for a map."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
import shapely

from geoforest.errors import InputError
from geoforest.io.files import open_place
from geoforest.maps.finished import fetch_map, read_finished, remarks_of
from geoforest.maps.verify.run import verify
from tests.helpers.maps import write_map

GROUND = {"epsg": 32720, "left": 500_000, "top": 9_700_000, "shape": (60, 80)}


@pytest.fixture
def there(tmp_path, tiny_bundle):
    forest = shapely.box(-63.0, -2.7180, -62.9955, -2.7125)
    return write_map(tmp_path / "there", "early", tiny_bundle.path, [forest], **GROUND)


def test_a_map_is_fetched_whole_and_again_when_it_has_changed(there, tmp_path):
    here = tmp_path / "here"
    fetch_map(open_place(str(there)), here)
    assert read_finished(here).sha256 == read_finished(there).sha256
    first = (here / "forest_probability.tif").stat().st_ino
    fetch_map(open_place(str(there)), here)
    assert (here / "forest_probability.tif").stat().st_ino == first
    (here / "forest_probability.tif").write_bytes(b"torn")
    fetch_map(open_place(str(there)), here)
    assert verify(here) == verify(there)


def test_a_map_that_is_gone_is_gone_here_too(there, tmp_path):
    here = tmp_path / "here"
    fetch_map(open_place(str(there)), here)
    (there / "job.json").unlink()
    fetch_map(open_place(str(there)), here)
    with pytest.raises(InputError, match=r"job\.json is not there"):
        read_finished(here)


def test_what_was_cut_off_is_no_map(there, tmp_path):
    here = tmp_path / "here"
    shutil.copytree(there, here)
    job = json.loads((there / "job.json").read_text())
    job["outputs"]["forest_mask.tif"]["sha256"] = "0" * 64
    (there / "job.json").write_text(json.dumps(job))
    (there / "forest_mask.tif").unlink()
    (there / "forest_mask.tif").mkdir()
    fetch_map(open_place(str(there)), here)
    assert any("forest_mask.tif" in str(problem) for problem in verify(here))


def test_what_many_maps_have_in_common_is_one_sentence():
    """Also where each sentence begins with the path of its own scene."""
    maps = [
        SimpleNamespace(
            scene_id=name, warnings=[f"{name}: far from the training"],
            notes=[f"in/{name}.tif: no nodata tag", f"{name}: its own number {name}"],
        )
        for name in "dcab"
    ]  # fmt: skip
    assert remarks_of(maps) == [
        "4 maps (a, b, c, ...): far from the training",
        *[f"{name}: its own number {name}" for name in "abcd"],
        "4 maps (a, b, c, ...): no nodata tag",
    ]
    assert remarks_of(maps[:1]) == [
        "d: far from the training", "d: its own number d", "in/d.tif: no nodata tag",
    ]  # fmt: skip
