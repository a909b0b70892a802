"""One acquisition under several processings: in searches, folders and lists the newest counts."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta

import pytest
import shapely

from geoforest.errors import GeoforestWarning
from geoforest.scenes.acquisition import Acquisition, acquisition_of_name, newest_of_each
from geoforest.scenes.stac.search import build_question, search
from tests.helpers import stac

TIME = datetime(2018, 8, 13, 14, 27, 29, tzinfo=UTC)
TILE = shapely.box(0, 0, 1, 1)
OLD, NEW = (2, 6), (5, 0)


def one(baseline, *, minutes=0, footprint=TILE, **fields):
    known = {"mission": "S2B", "level": "L2A", "tile": "20LMR", **fields}
    return Acquisition(
        **known, time=TIME + timedelta(minutes=minutes), baseline=baseline, footprint=footprint
    )


def kept(*acquisitions):
    """Indexes of what is kept; in every order the same."""
    for order in itertools.permutations(range(len(acquisitions))):
        found, replaced = newest_of_each([(i, acquisitions[i]) for i in order])
        assert sorted([*found, *(pair.old for pair in replaced)]) == sorted(order)
        assert found == [index for index in order if index in found]
        assert not {pair.new for pair in replaced} - set(found)
        if order == tuple(range(len(acquisitions))):
            first = found
        assert sorted(found) == first
    return first


def test_the_newest_baseline_of_one_tile_and_time():
    assert kept(one(OLD), one(NEW), one((4, 0))) == [1]
    # Catalogues state the time of the tile, or of the start of the datatake.
    assert kept(one(OLD, minutes=10), one(NEW)) == [1]
    assert kept(one(OLD, footprint=None), one(NEW, footprint=None)) == [1]


@pytest.mark.parametrize(
    "other",
    [
        one(NEW, minutes=100),
        one(NEW, tile="20LNR"),
        one(NEW, mission="S2A"),
        one(NEW, level="L1C"),
        one(OLD),
        one(None),
    ],
)
def test_other_acquisitions_stay(other):
    assert kept(one(OLD), other) == [0, 1]


def test_ground_that_the_newer_one_lacks_is_kept():
    """Two parts of a tile, received at two stations, are two products; one was processed anew."""
    west, east = shapely.box(0, 0, 0.6, 1), shapely.box(0.5, 0, 1, 1)
    assert kept(one(OLD, footprint=west), one(OLD, footprint=east)) == [0, 1]
    assert kept(one(OLD, footprint=west), one(OLD, footprint=east), one(NEW, footprint=west)) == [
        1,
        2,
    ]
    assert kept(one(OLD, footprint=TILE), one(NEW, footprint=west), one(NEW, footprint=east)) == [
        1,
        2,
    ]
    # Outlines of valid pixels differ a little.
    assert kept(one(OLD), one(NEW, footprint=shapely.box(0.02, 0, 1, 1))) == [1]


def test_the_same_baseline_processed_twice():
    first, second = one(NEW, processed="20230101T000000"), one(NEW, processed="20230601T000000")
    assert kept(first, second) == [1]
    parts = shapely.box(0, 0, 0.6, 1), shapely.box(0.5, 0, 1, 1)
    assert kept(
        one(NEW, processed="20230101T000000", footprint=parts[0]),
        one(NEW, processed="20230101T000100", footprint=parts[1]),
    ) == [0, 1]


def test_without_a_tile_the_outlines_tell():
    assert kept(one(OLD, tile=""), one(NEW, tile="")) == [1]
    beside = shapely.box(0.9, 0, 1.9, 1)
    assert kept(one(OLD, tile=""), one(NEW, tile="", footprint=beside)) == [0, 1]
    assert kept(one(OLD, tile="", footprint=None), one(NEW, tile="")) == [0, 1]


@pytest.mark.parametrize(
    ("name", "baseline"),
    [
        ("S2A_MSIL2A_20180813T142729_N0206_R053_T20LMR_20180813T190000.SAFE", (2, 6)),
        ("scene S2A_MSIL2A_20180813T142729_N9999_R053_T20LMR_20180813T190000 b", (99, 99)),
        ("S2A_MSIL2A_20180813T142729_R053_T20LMR_20180813T190000", None),
    ],
)
def test_names(name, baseline):
    found = acquisition_of_name(name)
    assert (found.mission, found.level, found.tile) == ("S2A", "L2A", "20LMR")
    assert found.time == datetime(2018, 8, 13, 14, 27, 29, tzinfo=UTC)
    assert found.baseline == baseline


def test_names_of_nothing():
    for name in ("a.tif", "S2A_MSIL2A_20189999T142729_N0206_R053_T20LMR_20180813T190000"):
        assert acquisition_of_name(name) is None


@pytest.mark.parametrize(
    "naming",
    [stac.earth_search, stac.planetary_computer, stac.data_space, stac.earth_search_v0],
)
def test_a_search_finds_the_newest(tmp_path, naming):
    names = ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version")
    field = next(name for name in names if name in stac.PROPERTIES[naming])
    links = []
    for item_id, baseline, west in (
        ("S2B_20LMR_20230813_0_L2A", "02.14", -63),
        ("S2B_20LMR_20230813_1_L2A", "05.09", -63),
        ("S2B_20LMR_20230813_2_L2A", "04.00", -62.999),
    ):
        properties = {field: baseline, "s2:product_uri": None}
        stac.write_item(tmp_path, stac.item(naming, item_id=item_id, west=west, **properties))
        links.append({"rel": "item", "href": f"./{item_id}.json"})
    root = {"type": "Catalog", "id": "root", "links": links}
    (tmp_path / "catalog.json").write_text(json.dumps(root))
    told = (
        r"2 scenes are left out, replaced by a newer processing of the same acquisition: "
        r"S2B_20LMR_20230813_0_L2A \(baseline 02.14\) by S2B_20LMR_20230813_1_L2A \(baseline 05.09"
    )
    with pytest.warns(GeoforestWarning, match=told):
        (found,) = search(str(tmp_path / "catalog.json"), build_question())
    assert found.item_id == "S2B_20LMR_20230813_1_L2A"
