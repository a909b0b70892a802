"""Each asset check passes on a good map and fails on one that is broken in its way."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
import rasterio
from affine import Affine

from geoforest.io.storage import read_json
from geoforest.scenes.open import open_scene
from geoforest.scenes.scene import Scene
from tests.helpers import synthetic
from tests.helpers.jobs import run
from tests.helpers.tampering import rewrite, seal
from workflows.checks import check_map, check_polygons, map_specs, polygon_specs

MASK = "forest_mask.tif"


@pytest.fixture(scope="module")
def finished(tiny_bundle, tmp_path_factory) -> tuple[Path, Scene]:
    folder = tmp_path_factory.mktemp("maps")
    path = synthetic.write_raster(folder / "scene.tif", synthetic.digital_numbers((150, 190)))
    result = run(path, folder / "out", tiny_bundle, min_area_ha=0.3)
    return result.folder, open_scene(path, wanted=synthetic.BANDS)


@pytest.fixture
def folder(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished[0], tmp_path / "scene"))


def results(folder: Path, scene: Scene) -> dict[str, dg.AssetCheckResult]:
    summary = read_json(folder / "summary.json")
    found = [*check_map(folder, scene, summary), *check_polygons(folder, summary)]
    return {one.check_name: one for one in found}


def failed(folder: Path, scene: Scene) -> set[str]:
    return {name for name, one in results(folder, scene).items() if not one.passed}


def test_a_good_map_passes_every_check(folder, finished):
    found = results(folder, finished[1])
    assert all(one.passed for one in found.values())
    specs = [*map_specs("forest_map"), *polygon_specs("polygons")]
    assert [*found] == [spec.name for spec in specs]
    warned = {name for name, one in found.items() if one.severity == dg.AssetCheckSeverity.WARN}
    # The tool itself only warns of these; for the others what is downstream waits.
    assert warned == {spec.name for spec in specs if not spec.blocking}
    assert warned == {"seam_ratio", "distribution"}


def test_a_changed_file_fails_all_that_cannot_be_looked_at(folder, finished):
    rewrite(folder / MASK, lambda values: values.fill(1))
    assert failed(folder, finished[1]) >= {"files_untouched", "three_states", "valid_cog"}


def shifted(folder: Path) -> None:
    with rasterio.open(folder / MASK, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as target:
        target.transform = target.transform @ Affine.translation(1, 0)


def two(values: np.ndarray) -> None:
    values[70, 70] = 2


@pytest.mark.parametrize(
    ("harm", "check"),
    [
        (shifted, "grid_equals_scene"),
        (lambda folder: rewrite(folder / MASK, two), "three_states"),
        (lambda folder: rewrite(folder / MASK, lambda values: None), "valid_cog"),
    ],
    ids=["grid", "states", "cog"],
)
def test_a_mask_that_was_recorded_but_is_wrong(
    folder, finished, harm: Callable[[Path], None], check: str
):
    names = (folder / f"{MASK}.aux.xml").read_bytes()
    harm(folder)
    (folder / f"{MASK}.aux.xml").write_bytes(names)
    seal(folder, MASK)
    found = results(folder, finished[1])
    assert not found[check].passed
    assert MASK in found[check].description
    assert found["files_untouched"].passed


def test_polygons_that_lost_one(folder, finished):
    with sqlite3.connect(folder / "forest.gpkg") as database:
        names = database.execute("SELECT name FROM sqlite_master WHERE type='trigger'").fetchall()
        # They call functions of GDAL.
        for (name,) in names:
            database.execute(f'DROP TRIGGER "{name}"')
        database.execute("DELETE FROM forest_cover WHERE fid = 1")
    database.close()
    seal(folder, "forest.gpkg")
    assert failed(folder, finished[1]) == {"pixels_add_up"}


@pytest.mark.parametrize("check", ["seams", "distribution"])
def test_what_the_tool_warns_of(folder, finished, check):
    summary = json.loads((folder / "summary.json").read_text())
    for verdict in summary["quality"]["verdicts"]:
        if verdict["check"] == check:
            verdict.update(passed=False, sentence="what it says")
    (warned,) = [one for one in check_map(folder, finished[1], summary) if not one.passed]
    assert warned.check_name == {"seams": "seam_ratio"}.get(check, check)
    assert warned.severity == dg.AssetCheckSeverity.WARN
    assert warned.description == "what it says"


def test_the_mosaic_leaves_out_scenes_whose_latest_map_failed():
    from workflows.scenes import _is_sound

    def made(asset: str, *, sound: bool) -> None:
        instance.report_runless_asset_event(
            dg.AssetMaterialization(asset, partition="a", metadata={"sound": sound})
        )

    with dg.DagsterInstance.ephemeral() as instance:
        made("forest_map", sound=True)
        made("polygons", sound=True)
        assert _is_sound(instance, "a")
        made("forest_map", sound=False)
        assert not _is_sound(instance, "a")
        made("forest_map", sound=True)
        assert _is_sound(instance, "a")
        made("polygons", sound=False)
        assert not _is_sound(instance, "a")
