"""Products of Theia: which files, what their numbers mean, and when."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from geoforest.arrays.grid import Window
from geoforest.errors import SceneError
from geoforest.scenes.find import find_scenes
from geoforest.scenes.open import open_scene
from geoforest.scenes.read import read_window
from tests.helpers.synthetic import BANDS, digital_numbers, write_raster

NAME = "SENTINEL2B_20241227-104904-377_L2A_T31TCJ_C_V4-0"
METADATA = """<Muscate_Metadata_Document><Radiometric_Informations>
<REFLECTANCE_QUANTIFICATION_VALUE>{scale}</REFLECTANCE_QUANTIFICATION_VALUE>
<SPECIAL_VALUES_LIST><SPECIAL_VALUE name="nodata">{nodata}</SPECIAL_VALUE></SPECIAL_VALUES_LIST>
</Radiometric_Informations></Muscate_Metadata_Document>"""


@pytest.fixture
def dn() -> np.ndarray:
    dn = digital_numbers((40, 50)).astype("int16")
    dn[:, :4] = -10000
    return dn


def make(folder: Path, dn: np.ndarray, *kinds: str, name: str = NAME) -> Path:
    root = folder / name
    (root / "MASKS").mkdir(parents=True)
    for kind in kinds:
        for band, values in zip(BANDS, dn, strict=True):
            file = root / f"{NAME}_{kind}_{band.replace('0', '')}.tif"
            # SRE is another number, so that the two can be told apart.
            write_raster(file, values[None] + 7 * (kind == "SRE"), descriptions=None)
    return root


def test_slopes_are_corrected_nodata_and_time_are_known(tmp_path, dn):
    scene = open_scene(make(tmp_path, dn, "SRE", "FRE"), wanted=BANDS)
    assert (scene.scene_id, scene.processing_level) == (NAME, "L2A")
    assert scene.acquired is not None
    assert scene.acquired.isoformat() == "2024-12-27T10:49:04+00:00"
    assert scene.facts["mgrs_tile"] == "31TCJ"
    values, valid = read_window(scene, Window(0, 0, 40, 50))
    assert np.array_equal(values, dn)
    assert not valid[:4].any()
    assert valid[4:].all()
    assert "FRE is taken, corrected for slopes" in scene.notes[0]
    assert find_scenes(str(tmp_path)) == {NAME: str(tmp_path / NAME)}


def test_surface_reflectance_alone(tmp_path, dn):
    scene = open_scene(make(tmp_path, dn, "SRE", name="renamed"), wanted=BANDS)
    assert scene.scene_id == "renamed"
    assert scene.acquired is not None
    assert "SRE is taken, not corrected" in scene.notes[0]


def test_what_its_metadata_state(tmp_path, dn):
    root = make(tmp_path, dn, "FRE")
    xml = root / f"{NAME}_MTD_ALL.xml"
    xml.write_text(METADATA.format(scale=1000, nodata=-9999))
    scene = open_scene(root, wanted=BANDS)
    assert (scene.scale, {band.nodata for band in scene.bands}) == ((1e-3,) * 4, {-9999})
    assert str(xml) in {name for name, *_ in scene.files}
    xml.write_text("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>")
    with pytest.raises(SceneError, match="forbidden XML"):
        open_scene(root, wanted=BANDS)
    xml.write_text(METADATA.format(scale="many", nodata=0))
    with pytest.raises(SceneError, match="QUANTIFICATION_VALUE is 'many'; a number was wanted"):
        open_scene(root, wanted=BANDS)


def test_the_kinds_are_not_mixed(tmp_path, dn):
    root = make(tmp_path, dn, "SRE", "FRE")
    (root / f"{NAME}_FRE_B8.tif").unlink()
    with pytest.raises(SceneError, match="band B08 is missing"):
        open_scene(root, wanted=BANDS)


def test_two_products(tmp_path, dn):
    root = make(tmp_path, dn, "FRE")
    (root / f"{NAME}_FRE_B8.tif").rename(root / f"{NAME.replace('V4', 'V3')}_FRE_B8.tif")
    with pytest.raises(SceneError, match="holds 2 products"):
        open_scene(root, wanted=BANDS)
