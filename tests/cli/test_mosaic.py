"""The command that puts maps together."""

from __future__ import annotations

import json

import pytest
import rasterio

from tests.helpers.maps import write_map
from tests.helpers.samples import CLEARED, FOREST, GROUND, LATER


@pytest.mark.slow
def test_mosaic(geoforest, tiny_bundle, tmp_path):
    maps = tmp_path / "maps"
    write_map(maps, "one", tiny_bundle.path, [FOREST], **GROUND)
    later = write_map(maps, "two", tiny_bundle.path, [FOREST - CLEARED], acquired=LATER, **GROUND)
    with rasterio.open(later / "forest_mask.tif") as source:
        forest = source.read(1) == 1
    arguments = ["mosaic", maps, "--out", tmp_path / "basin", "--rule", "latest"]

    done = geoforest(*arguments)
    assert done.returncode == 0, done.stderr
    again = json.loads(geoforest(*arguments, "--json").stdout)
    assert again["rewritten"]["tiles"] == []
    # Ground that both maps show counts once, as the later one shows it.
    told = again["hectares"]
    assert told["forest"] == pytest.approx(forest.sum() / 100, rel=2e-3)
    assert told["forest"] + told["other"] == pytest.approx(forest.size / 100, rel=2e-3)
    assert f"2 scenes: {told['forest']:.1f} ha" in done.stdout
    assert f", {100 * forest.mean():.1f} % of observed" in done.stdout
    assert "1 tiles in zones 20S, 1 of them made now" in done.stdout
    assert "1 patches of at least 0.5 ha, 0 of them across zones" in done.stdout
    # Union and sum of the ground of both maps.
    ground = again["ground"]
    line = (
        f"{told['observed']:,.1f} ha of ground observed; its maps observed "
        f"{ground['union_ha']:,.1f} ha, in sum {ground['sum_ha']:,.1f} ha with overlaps"
    )
    assert ground["sum_ha"] == pytest.approx(2 * told["observed"])
    assert line in done.stdout
    assert line in geoforest("verify", tmp_path / "basin").stdout
    assert "clouds are not masked" in done.stderr


def test_no_maps(geoforest, tmp_path):
    wrong = geoforest("mosaic", tmp_path / "none", "--out", tmp_path / "other")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("geoforest: ")
    assert not (tmp_path / "other").exists()
