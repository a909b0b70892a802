"""The command that compares two maps."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
import shapely

from tests.helpers.maps import write_map
from tests.helpers.samples import CLEARED, FOREST, GROUND, LATER

GROWN = shapely.box(-62.9940, -2.7200, -62.9930, -2.7190)


def mask(folder) -> np.ndarray:
    with rasterio.open(folder / "forest_mask.tif") as source:
        return source.read(1)


def test_change(geoforest, tiny_bundle, tmp_path):
    maps, model = tmp_path / "maps", tiny_bundle.path
    early = write_map(maps, "a", model, [FOREST], **GROUND)
    left = [FOREST - CLEARED, GROWN]
    late = write_map(maps, "b", model, left, acquired=LATER, **GROUND)
    was, now = mask(early), mask(late)
    pixels = {
        "loss": (was > now).sum(),
        "gain": (was < now).sum(),
        "stable_forest": (was & now).sum(),
    }
    assert min(pixels.values()) > 50

    done = geoforest("change", early, late, "--out", tmp_path / "change")
    assert done.returncode == 0, done.stderr
    again = geoforest("change", early, late, "--out", tmp_path / "change", "--json")
    told = json.loads(again.stdout)["hectares"]
    # A pixel of the zone is 0.01 ha, and on the ground up to 0.1 % more or less.
    assert {name: told[name] for name in pixels} == pytest.approx(
        {name: count / 100 for name, count in pixels.items()}, rel=2e-3
    )
    assert done.stdout.startswith(
        f"{told['loss']:.1f} ha lost, {told['gain']:.1f} ha gained, "
        f"{told['stable_forest']:.1f} ha stable forest, 0.0 ha uncertain"
    )


def test_dates_that_are_swapped(geoforest, tiny_bundle, tmp_path):
    ground = {**GROUND, "shape": (64, 64)}
    early = write_map(tmp_path / "maps", "a", tiny_bundle.path, [], **ground)
    late = write_map(tmp_path / "maps", "b", tiny_bundle.path, [], acquired=LATER, **ground)
    wrong = geoforest("change", late, early, "--out", tmp_path / "other")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("geoforest: ")
    assert not (tmp_path / "other").exists()
