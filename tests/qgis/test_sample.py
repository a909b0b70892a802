"""A sample in the real QGIS: a form with drop-downs, squares of pixels, nothing of the map."""

from __future__ import annotations

import shutil
from pathlib import Path

import geopandas
import numpy as np
import pytest
from PIL import Image

from geoforest import draw_sample
from geoforest.storage import file_sha256
from tests.mosaic.maps import write_map
from tests.test_sampling import FOREST, GROUND


@pytest.fixture(scope="module")
def sample(tmp_path_factory, tiny_bundle) -> Path:
    out = tmp_path_factory.mktemp("sample") / "maps"
    folder = write_map(out, "early", tiny_bundle.path, [FOREST], **GROUND)
    return draw_sample(folder, 120, out / "sample.gpkg").path


@pytest.fixture(scope="module")
def seen(look, sample) -> dict:
    before = file_sha256(sample)
    found = look("sample", sample)
    assert file_sha256(sample) == before
    return found


def test_it_opens_styled(seen):
    assert seen["valid"]
    assert seen["messages"] == []
    assert seen["features"] == 120
    assert seen["crs"]["code"] == "EPSG:32720"
    assert seen["styles_in_file"] == 1
    assert seen["renderer"] == "RuleRenderer"
    assert seen["legend"] == ["to be labelled", "labelled"]


def test_the_form_has_drop_downs_and_not_what_the_map_says(seen):
    assert seen["form"] == ["Label"]
    assert seen["form_fields"] == ["sample_id", "reference", "confidence", "note"]
    kind, config = seen["widgets"]["reference"]
    assert kind == "ValueMap"
    assert config["map"] == [
        {"other": "other"}, {"forest": "forest"}, {"not interpretable": "not interpretable"},
    ]  # fmt: skip
    kind, config = seen["widgets"]["confidence"]
    assert (kind, len(config["map"])) == ("ValueMap", 3)
    assert "Hidden" not in {kind for kind, _ in seen["widgets"].values()}
    assert {"sample_id", "stratum", "stratum_name", "row", "col"} <= set(seen["locked"])
    assert not {"reference", "confidence", "note"} & set(seen["locked"])
    assert seen["first_name"].startswith("Point ")


def test_the_table_has_no_more_than_the_form(seen):
    assert seen["table"] == seen["form_fields"]
    assert seen["table_sorted_by"] == '"sample_id"'


def colours(png: Path) -> dict[str, int]:
    """How many picture pixels have the colours of open and of labelled points."""
    with Image.open(png) as image:
        drawn = np.asarray(image.convert("RGB")).astype(int)
    wanted = {"open": (255, 0, 255), "done": (0, 220, 255)}
    return {
        name: int((np.abs(drawn - colour).max(axis=-1) < 30).sum())
        for name, colour in wanted.items()
    }


def test_points_change_their_colour_once_labelled(look, sample, seen, tmp_path):
    counts = colours(seen["png"])
    assert counts["open"] > 500
    assert counts["done"] == 0
    path = Path(shutil.copy(sample, tmp_path / "labelled.gpkg"))
    points = geopandas.read_file(path, layer="sample")
    points["reference"] = "other"
    points.to_file(path, layer="sample")
    counts = colours(look("sample", path)["png"])
    assert counts["done"] > 500
    assert counts["open"] == 0


def test_a_square_is_the_pixel(look, sample):
    """Close by, the outline of the mark runs along the edges of the pixel."""
    first = geopandas.read_file(sample, layer="sample").geometry[0]
    seen = look("sample", sample, box=first.buffer(10).bounds)
    with Image.open(seen["png"]) as image:
        drawn = np.asarray(image.convert("RGB")).astype(int)
    rows, cols = np.nonzero(np.abs(drawn - (255, 0, 255)).max(axis=-1) < 30)
    # The picture shows 20 m; its middle half is the pixel.
    for edge in (rows, cols):
        assert abs(edge.min() / 800 - 0.25) < 0.01
        assert abs(edge.max() / 800 - 0.75) < 0.01
