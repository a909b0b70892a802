"""What lies beside a sample: pictures of the ground at full resolution."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio

import geoforest
from geoforest import draw_sample, map_change
from geoforest.errors import OutputError, WriteError
from geoforest.maps.finished import read_finished, recorded_scene
from geoforest.maps.sample.around_points import write_picture
from tests.helpers import synthetic
from tests.helpers.maps import load_oracle, write_map
from tests.helpers.samples import CLEARED, FOREST, GROUND, LATER


@pytest.fixture(scope="module")
def mapped(tmp_path_factory, tiny_bundle) -> Path:
    """A map of a scene that is larger than what is about its points."""
    out = tmp_path_factory.mktemp("package")
    random = np.random.default_rng(0)
    dn = synthetic.digital_numbers((700, 900))
    dn[0] = random.choice([20, 230], (700, 900))
    dn[:, :100, :100] = 0
    (out / "scenes").mkdir()
    scene = synthetic.write_raster(out / "scenes" / "a.tif", dn, nodata=0)
    result = geoforest.map_scene(
        scene, out / "maps", model=tiny_bundle.path, load_predictor=load_oracle, window=256,
        halo=0, products="probability,report",
    )  # fmt: skip
    return result.folder


def project(path: Path) -> ElementTree.Element:
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [f"{path.stem}.qgs"]
        return ElementTree.fromstring(archive.read(f"{path.stem}.qgs"))


def sources(path: Path) -> list[str | None]:
    return [node.text for node in project(path).iterfind("projectlayers/maplayer/datasource")]


def test_the_picture_is_the_scene_at_its_resolution_about_the_points(mapped, tmp_path):
    scene = recorded_scene(read_finished(mapped))
    assert scene is not None
    rows, cols = np.array([350, 690]), np.array([450, 10])
    assert write_picture(tmp_path / "p.tif", scene, rows, cols, (50, 75))
    with rasterio.open(tmp_path / "p.tif") as source:
        assert (source.shape, source.transform, source.crs) == (
            scene.shape, scene.transform, scene.crs
        )  # fmt: skip
        picture, seen = source.read(), source.dataset_mask() > 0
    for row, col in zip(rows, cols, strict=True):
        top, left = max(0, row - 50), max(0, col - 75)
        assert seen[top : row + 51, left : col + 76].all()
    assert not seen[:200, 600:].any()
    assert 0.05 < seen.mean() < 0.3
    # As bright as the scene: order is kept by the stretch, but for what JPEG rounds.
    with rasterio.open(scene.bands[1].path) as source:
        green = source.read(2)
    assert np.corrcoef(green[seen], picture[1][seen])[0, 1] > 0.8
    assert (tmp_path / "p.tif").stat().st_size < 200_000


def test_what_nobody_saw_is_transparent(mapped, tmp_path):
    scene = recorded_scene(read_finished(mapped))
    assert scene is not None
    one = np.array([99])
    assert write_picture(tmp_path / "p.tif", scene, one, one, (20, 20))
    with rasterio.open(tmp_path / "p.tif") as source:
        seen = source.dataset_mask() > 0
    assert not seen[:100, :100].any()
    assert seen[100:128, 100:128].all()
    assert (
        not write_picture(tmp_path / "q.tif", scene, one - 80, one - 80, (5, 5))
        or (tmp_path / "q.tif").exists()
    )


def test_files_beside_the_sample(mapped, tmp_path):
    made = draw_sample(mapped, 30, tmp_path / "labels" / "s.gpkg")
    assert made.notes == ()
    assert {path.name for path in made.path.parent.iterdir()} == {
        "s.gpkg", "s.qgz", "s_scene.tif",
    }  # fmt: skip
    quicklook = Path(os.path.relpath(mapped / "quicklook.tif", made.path.parent)).as_posix()
    assert sources(made.project) == ["./s.gpkg|layername=sample", "./s_scene.tif", quicklook]
    text = ElementTree.tostring(project(made.project), encoding="unicode")
    assert str(tmp_path) not in text
    for told in ("forest_mask", "forest_probability", "forest.gpkg"):
        assert told not in text
    again = draw_sample(mapped, 30, tmp_path / "again" / "s.gpkg")
    assert again.project.read_bytes() == made.project.read_bytes()


@pytest.mark.parametrize("what", ["gone", "changed", "remote", "elsewhere"])
def test_without_the_scene_there_is_the_quicklook(mapped, tmp_path, what):
    copy = Path(shutil.copytree(mapped, tmp_path / "map"))
    job = json.loads((copy / "job.json").read_text())
    identity = job["identity"]
    if what == "gone":
        identity["files"][0][0] = str(tmp_path / "gone.tif")
    elif what == "changed":
        identity["files"][0][2] += 1
    elif what == "remote":
        identity["files"][0][0] = "https://example.com/a.tif"
    else:
        identity["bands"][0][1] = str(tmp_path / "other.tif")
    (copy / "job.json").write_text(json.dumps(job))
    made = draw_sample(copy, 30, tmp_path / "s.gpkg")
    (note,) = made.notes
    assert "is not on this disk as it was" in note
    assert sources(made.project) == ["./s.gpkg|layername=sample", "./map/quicklook.tif"]
    assert not (tmp_path / "s_scene.tif").exists()


def test_nothing_is_replaced(mapped, tmp_path):
    for name in ("s.qgz", "s_scene.tif"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(OutputError, match=f"{name}: exists"):
            draw_sample(mapped, 30, tmp_path / "s.gpkg")
        assert [path.name for path in tmp_path.iterdir()] == [name]
        (tmp_path / name).unlink()


def test_nothing_is_left_of_a_sample_that_failed(mapped, tmp_path, monkeypatch):
    def full(path, *rest):
        path.write_bytes(b"half")
        raise WriteError(f"{path}: cannot be written (No space left on device)")

    monkeypatch.setattr("geoforest.maps.sample.pictures.write_picture", full)
    with pytest.raises(WriteError, match=rf"^{tmp_path}/s_scene\.tif: cannot be written"):
        draw_sample(mapped, 30, tmp_path / "s.gpkg")
    assert list(tmp_path.iterdir()) == []


def test_a_comparison_whose_maps_are_gone(tmp_path, tiny_bundle):
    early = write_map(tmp_path / "maps", "early", tiny_bundle.path, [FOREST], **GROUND)
    late = write_map(
        tmp_path / "maps", "late", tiny_bundle.path, [FOREST - CLEARED], acquired=LATER, **GROUND
    )
    change = map_change(early, late, tmp_path / "change").folder
    told = json.loads((change / "change.json").read_text())
    assert told["earlier"]["folder"] == f"../maps/{early.name}"
    both = draw_sample(change, 60, tmp_path / "both.gpkg")
    assert sources(both.project)[1:] == ["./both_later.tif", "./both_earlier.tif"]
    shutil.rmtree(early)
    made = draw_sample(change, 60, tmp_path / "s.gpkg")
    (note,) = made.notes
    assert "no finished map" in note
    assert sources(made.project) == ["./s.gpkg|layername=sample", "./s_later.tif"]
