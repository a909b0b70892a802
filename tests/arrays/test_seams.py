"""Seams, halo and verdicts: each check sees its fault, and stays quiet without it."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio

import geoforest
from geoforest.arrays.seams import SEAM_LIMIT, Seams, Steps
from geoforest.errors import InputError
from geoforest.pipeline.products.halo_test import HaloTest
from geoforest.pipeline.products.verdicts import judge
from geoforest.scenes.synthetic import make_scene, write_scene
from tests.helpers import synthetic
from tests.helpers.synthetic import EdgePredictor, load_local_predictor

CORE = 48


def seams_of(stored: np.ndarray, core: int = CORE) -> Seams:
    steps = Steps(stored.shape)
    steps.add(stored)
    return steps.seams(core)


def texture(shape=(400, 500), seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(100, 120, shape).astype(np.uint8)


def squares(shape, core: int, shift: int = 0) -> np.ndarray:
    rows, cols = ((np.arange(side) - shift) // core % 2 for side in shape)
    return rows[:, None] ^ cols


def by_hand(stored: np.ndarray, core: int) -> tuple[float, float]:
    """Mean steps on borders and beside them, by the formula of the docstring, pair by pair."""
    border, beside = [], []
    for values in (stored, stored.T):
        lines = range(core, values.shape[0], core)
        for row in range(1, values.shape[0]):
            away = min(abs(row - line) for line in lines)
            for over, here in zip(values[row - 1].tolist(), values[row].tolist(), strict=True):
                if 255 not in {over, here}:
                    if away == 0:
                        border.append(abs(here - over) / 250)
                    elif 2 < away <= 16:
                        beside.append(abs(here - over) / 250)
    return float(np.mean(border)), float(np.mean(beside))


def test_the_ratio_is_that_of_the_formula():
    stored = texture((131, 157))
    stored[30:70, 40:110] = 255
    stored[::7, ::5] = 255
    border, beside = by_hand(stored, CORE)
    seams = seams_of(stored)
    assert seams.border_step == pytest.approx(border)
    assert seams.ratio == pytest.approx(border / beside)


def test_strips_give_what_the_whole_gives():
    stored = texture()
    stored[:, 100:140] = 255
    steps = Steps(stored.shape)
    for start, end in ((0, 48), (48, 49), (49, 300), (300, 400)):
        steps.add(stored[start:end])
    assert steps.seams(CORE) == seams_of(stored)


def test_squares_of_the_size_of_cores_are_seen_and_others_are_not():
    plain = texture()
    assert seams_of(plain).ratio == pytest.approx(1, abs=0.05)
    assert seams_of(plain).show is False
    lattice = plain + 40 * squares(plain.shape, CORE).astype(np.uint8)
    assert seams_of(lattice).show is True
    assert seams_of(lattice).shifted == pytest.approx(1, abs=0.05)
    elsewhere = plain + 40 * squares(plain.shape, CORE, shift=CORE // 2).astype(np.uint8)
    assert seams_of(elsewhere).show is False
    assert seams_of(elsewhere).shifted > SEAM_LIMIT


def test_what_cannot_be_told():
    assert seams_of(np.full((300, 300), 255, np.uint8)) == Seams(None, None, None)
    assert seams_of(texture((40, 40))).show is None
    # One border of 200 pixels.
    assert seams_of(texture((200, 60))).ratio is not None
    assert seams_of(texture((40, 60))).ratio is None


def test_flat_probability_has_no_seams_unless_it_has_squares():
    flat = np.full((300, 300), 250, np.uint8)
    assert seams_of(flat).ratio == 0
    assert seams_of(flat - 10 * squares(flat.shape, CORE).astype(np.uint8)).show is True
    # Half a stored step on average: a high ratio that no eye would see.
    flat[CORE::CORE, ::2] -= 1
    flat[::2, CORE::CORE] -= 1
    assert seams_of(flat).ratio > SEAM_LIMIT
    assert seams_of(flat).show is False


def test_verdicts():
    good = judge(Seams(1.5, 1.0, 0.03), None, 90.0, HaloTest(64, 16, 0.002, 0.004))
    assert [(one.check, one.passed) for one in good] == [
        ("seams", True), ("halo", None), ("distribution", True), ("observation", None),
    ]  # fmt: skip
    assert "0.20 % of the mask in 16 cores changes with a halo of 64 px" in good[1].sentence
    assert "10.0 % of the pixels asked for were not observed" in good[-1].sentence
    bad = judge(Seams(4.7, 1.0, 0.03), "far away", 90.0, HaloTest(64, 16, 0.02, 0.03))
    assert [one.passed for one in bad] == [False, None, False, None]
    assert bad[2].sentence == "far away"
    unknown = judge(Seams(None, None, None), None, 0.0, HaloTest(64, 0, None, None))
    assert [one.passed for one in unknown] == [None, None, None, None]


def load_edge_predictor(job: object) -> EdgePredictor:
    return EdgePredictor()


def run(scene, out, bundle, load, **settings):
    chosen = {"model": str(bundle.path), "min_area_ha": 0.0, "window": 96, **settings}
    return geoforest.map_scene(scene, out, load_predictor=load, **chosen).summary


@pytest.fixture
def wide_scene(tmp_path):
    dn = synthetic.digital_numbers((230, 300))
    dn[:, :40, :30] = 0
    return synthetic.write_raster(tmp_path / "wide.tif", dn, nodata=0)


@pytest.mark.parametrize("shard", [48, 1000])
def test_a_map_tells_of_its_seams(wide_scene, tmp_path, tiny_bundle, shard):
    load = load_edge_predictor
    bad = run(wide_scene, tmp_path / "0", tiny_bundle, load, halo=0, shard=shard)
    assert bad["quality"]["seam_ratio"] > SEAM_LIMIT == bad["quality"]["seam_limit"]
    verdict = bad["quality"]["verdicts"][0]
    assert verdict["check"] == "seams"
    assert verdict["passed"] is False
    assert f"wide: {verdict['sentence']}" in bad["warnings"]
    assert "Failed</b>" in (tmp_path / "0" / "wide" / "report.html").read_text()
    good = run(wide_scene, tmp_path / "8", tiny_bundle, load, halo=8, shard=shard)
    assert good["quality"]["seam_ratio"] == pytest.approx(1, abs=0.1)
    assert good["quality"]["verdicts"][0]["passed"] is True
    assert good["warnings"] == []
    assert good["quality"]["unobserved_percent"] == round(100 * 1200 / (230 * 300), 3)
    assert good["quality"]["halo_test"] is None


def test_the_halo_test_sees_a_halo_that_is_too_narrow(wide_scene, tmp_path, tiny_bundle):
    load = load_edge_predictor
    narrow = run(wide_scene, tmp_path / "a", tiny_bundle, load, halo=4, check_halo=True)
    test = narrow["quality"]["halo_test"]
    assert test["halo"] == 8
    # 3 x 4 cores of 88 px; all have an observed pixel.
    assert test["cores"] == 12
    # Of what was kept, the first two rows and columns see an edge.
    rows, cols = np.mgrid[:230, :300]
    seen = (rows >= 40) | (cols >= 30)
    assert test["disagreement"] == ((rows % 88 < 2) | (cols % 88 < 2))[seen].mean()
    sentence = next(v["sentence"] for v in narrow["quality"]["verdicts"] if v["check"] == "halo")
    assert f"{100 * test['disagreement']:.2f} % of the mask in 12 cores changes" in sentence


def test_the_halo_test_compares_each_observed_pixel(wide_scene, tmp_path, tiny_bundle):
    load = load_edge_predictor
    narrow = run(wide_scene, tmp_path / "4", tiny_bundle, load, halo=4, check_halo=True)
    run(wide_scene, tmp_path / "8", tiny_bundle, load, halo=8)
    stored = []
    for halo in (4, 8):
        with rasterio.open(tmp_path / str(halo) / "wide" / "forest_probability.tif") as source:
            stored.append(source.read(1).astype(int))
    # With 8 px no pixel sees an edge: wherever its cores begin, the map is the same.
    seen = stored[0] != 255
    difference = np.abs(stored[0] - stored[1])[seen].mean() / 250
    assert narrow["quality"]["halo_test"]["mean_difference"] == pytest.approx(difference)


def test_with_all_the_context_it_needs_nothing_changes(wide_scene, tmp_path, tiny_bundle):
    out = tmp_path / "out"
    # The network sees 2 px around each.
    run(wide_scene, out, tiny_bundle, load_local_predictor, halo=8)
    summary = run(wide_scene, out, tiny_bundle, load_local_predictor, halo=8, check_halo=True)
    assert summary["reused_shards"] == summary["shards"]
    test = summary["quality"]["halo_test"]
    assert (test["disagreement"], test["mean_difference"]) == (0, 0)
    assert summary["quality"]["verdicts"][1]["check"] == "halo"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"halo": 24}, "twice the halo, 48 px, leaves no core in a window of 96"),
        ({"halo": 4, "scheduler": "tcp://127.0.0.1:1"}, "predicts in this process"),
    ],
)
def test_a_halo_test_that_cannot_be(wide_scene, tmp_path, tiny_bundle, settings, sentence):
    out = tmp_path / "out"
    with pytest.raises(InputError, match=sentence):
        run(wide_scene, out, tiny_bundle, load_local_predictor, check_halo=True, **settings)
    assert not out.exists()


@pytest.mark.slow
def test_the_starter_needs_a_halo_and_has_one(tmp_path):
    path = tmp_path / "scene.tif"
    # 2 x 2 windows without a halo, 3 x 3 with one.
    write_scene(make_scene(7, (1024, 1024)), path)
    ratios = {
        halo: geoforest.map_scene(
            path, tmp_path / str(halo), halo=halo, products="probability", runtime="torch"
        ).summary["quality"]["seam_ratio"]
        for halo in (0, 32)
    }
    assert ratios[0] > SEAM_LIMIT > ratios[32]
