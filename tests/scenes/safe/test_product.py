"""SAFE products: both levels and namings, folders and archives, and what is said of broken ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from geoforest.arrays.grid import Window
from geoforest.errors import InputError, SceneError
from geoforest.pipeline.run import named_once
from geoforest.pipeline.settings import MapSettings
from geoforest.scenes.open import open_scene, scene_name
from geoforest.scenes.read import read_window
from geoforest.scenes.safe.product import is_safe, read_safe
from tests.helpers.safe import BAND_IDS, Safe, make_safe, write_band, zip_safe
from tests.helpers.synthetic import BANDS, digital_numbers, write_raster

WHOLE = Window(0, 0, 40, 50)
NAME = "S2A_MSIL2A_20230804T142741_N0509_R053_T20LMR_20230804T201005"
OFFSETS = dict.fromkeys(BAND_IDS, -1000)


@pytest.fixture
def dn() -> np.ndarray:
    return digital_numbers((40, 50))


@pytest.fixture
def safe(tmp_path, dn) -> Path:
    return make_safe(tmp_path / "in", dn, offsets=OFFSETS)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


class TestRead:
    def test_level_2a_with_offset(self, safe, dn):
        scene = open_scene(safe, wanted=BANDS)
        assert scene.scene_id == NAME
        assert scene.scale == (1e-4,) * 4
        assert scene.offset == (-0.1,) * 4
        assert scene.processing_level == "L2A"
        assert scene.acquired == datetime(2023, 8, 4, 14, 27, 41, 24000, UTC)
        assert scene.facts == {
            "product_id": NAME,
            "mgrs_tile": "20LMR",
            "orbit": 53,
            "processing_baseline": "05.09",
            "cloud_percent": 12.5,
        }
        assert scene.scene_classification.endswith("R20m/T20LMR_20230804T142741_SCL_20m.jp2")
        assert Path(scene.scene_classification).is_file()
        assert scene.notes == ()
        # The XML, too: an edited offset is another job.
        assert [Path(name).name for name, *_ in scene.files].count("MTD_MSIL2A.xml") == 1
        assert (read_window(scene, WHOLE)[0] == dn).all()

    def test_level_1c_without_offset(self, tmp_path, dn):
        root = make_safe(tmp_path, dn, level="L1C", baseline="03.01")
        scene = open_scene(root, wanted=BANDS)
        assert scene.scene_id == NAME.replace("L2A", "L1C").replace("N0509", "N0301")
        assert (scene.scale, scene.offset) == ((1e-4,) * 4, (0.0,) * 4)
        assert scene.processing_level == "L1C"
        assert scene.scene_classification is None
        assert (read_window(scene, WHOLE)[0] == dn).all()

    @pytest.mark.parametrize("level", ["L1C", "L2A"])
    def test_naming_of_before_december_2016(self, tmp_path, dn, level):
        root = make_safe(tmp_path, dn, level=level, old=True, baseline="02.04")
        for location in (root, root / "GRANULE" / Safe(level=level, old=True).granule):
            scene = open_scene(location, wanted=BANDS)
            assert scene.scene_id == location.name.removesuffix(".SAFE")
            assert scene.facts["mgrs_tile"] == "20LMR"
            assert scene.facts["processing_baseline"] == "02.04"
            assert (read_window(scene, WHOLE)[0] == dn).all()

    def test_tags_of_before_october_2018(self, tmp_path, dn):
        root = make_safe(tmp_path, dn, baseline="02.06", quantification="1000")
        xml = root / "MTD_MSIL2A.xml"
        change(xml, "BOA_QUANTIFICATION_VALUE>", "L2A_BOA_QUANTIFICATION_VALUE>")
        change(xml, "PRODUCT_URI>", "PRODUCT_URI_2A>")
        change(xml, "IMAGE_FILE>", "IMAGE_FILE_2A>")
        scene = open_scene(root, wanted=BANDS)
        assert scene.scale == (1e-3,) * 4
        assert scene.facts["product_id"] == root.stem

    def test_offset_is_that_of_the_band(self, tmp_path, dn):
        offsets = {band: -100 * number for number, band in enumerate(BAND_IDS)}
        bands = (*BANDS, "B8A")
        for spectral in (True, False):
            root = make_safe(
                tmp_path / str(spectral), dn, offsets=offsets, spectral=spectral,
                quantification="1000",
            )  # fmt: skip
            product = read_safe(str(root))
            found = [product.codings[band].offset for band in bands]
            assert found == pytest.approx([-0.3, -0.2, -0.1, -0.7, -0.8])

    def test_offset_by_the_xmls_own_band_ids(self, tmp_path, dn):
        root = make_safe(tmp_path, dn, offsets=OFFSETS)
        xml = root / "MTD_MSIL2A.xml"
        change(xml, 'band_id="3">-1000', 'band_id="x">-500')
        change(xml, 'bandId="3" physicalBand="B4"', 'bandId="x" physicalBand="B4"')
        assert open_scene(root, wanted=BANDS).offset == (-0.05, -0.1, -0.1, -0.1)

    def test_nodata_is_before_the_offset_and_negative_reflectance_is_valid(self, tmp_path, dn):
        dn[:, 3, 4] = 0
        dn[:, 5, 6] = 500
        dn[:, 7, 8] = 1000
        scene = open_scene(make_safe(tmp_path, dn, offsets=OFFSETS), wanted=BANDS)
        assert np.argwhere(~read_window(scene, WHOLE)[1]).tolist() == [[3, 4]]

    def test_nodata_is_the_special_value(self, tmp_path, dn):
        dn[0, 3, 4], dn[:, 1, 1] = 7, 0
        scene = open_scene(make_safe(tmp_path, dn, nodata="7"), wanted=BANDS)
        assert np.argwhere(~read_window(scene, WHOLE)[1]).tolist() == [[3, 4]]

    def test_settings_replace_what_the_xml_says(self, safe):
        scene = open_scene(safe, wanted=BANDS, scale=1e-3, offset=0.5, nodata=9, scene_id="a")
        assert (scene.scale, scene.offset, scene.scene_id) == ((1e-3,) * 4, (0.5,) * 4, "a")
        assert {band.nodata for band in scene.bands} == {9}

    def test_bands_at_their_highest_resolution(self, safe):
        product = read_safe(str(safe))
        assert set(product.bands) == {*BANDS, "B8A"}
        assert product.bands["B04"].endswith("R10m/T20LMR_20230804T142741_B04_10m.jp2")
        assert product.bands["B8A"].endswith("R20m/T20LMR_20230804T142741_B8A_20m.jp2")

    def test_geotiff(self, tmp_path, dn):
        root = make_safe(tmp_path, dn, suffix=".tif")
        (root / "MTD_MSIL2A.xml").rename(root / "MTD_MSIL2a.xml")
        scene = open_scene(root, wanted=BANDS)
        assert (read_window(scene, WHOLE)[0] == dn).all()
        assert scene.facts["product_id"] == root.stem

    def test_files_that_the_xml_lists_come_before_others(self, safe, dn):
        image = Path(read_safe(str(safe)).bands["B04"])
        write_band(image.with_name("T20LMR_mine_B04_10m.jp2"), dn[1])
        assert read_safe(str(safe)).bands["B04"] == str(image)

    def test_images_that_the_xml_names_otherwise_are_found(self, safe, dn):
        for image in read_safe(str(safe)).bands.values():
            Path(image).with_name(f"._{Path(image).name}").write_text("of macOS")
        change(safe / "MTD_MSIL2A.xml", "20230804T142741_B", "20230804T000000_B")
        assert (read_window(open_scene(safe, wanted=BANDS), WHOLE)[0] == dn).all()

    def test_a_tile_as_buckets_have_it(self, safe, dn, tmp_path):
        tile = tmp_path / "0"
        codes = open_scene(safe, wanted=BANDS).scene_classification
        for layer, image in {**read_safe(str(safe)).bands, "SCL": codes}.items():
            folder = "R20m" if layer in {"B8A", "SCL"} else "R10m"
            (tile / folder).mkdir(parents=True, exist_ok=True)
            shutil.copy(image, tile / folder / f"{layer}.jp2")
        # Neither the coarser band nor the preview is taken.
        for folder in ("R20m", "preview"):
            write_band(tile / folder / "B04.jp2", dn[0, ::2, ::2], 20)
        for name in ("metadata.xml", "tileInfo.json"):
            (tile / name).write_text("")
        shutil.copy(safe / "MTD_MSIL2A.xml", tile / "product_metadata.xml")
        scene = open_scene(tile, wanted=BANDS)
        assert scene.scene_id == "0"
        assert scene.facts["product_id"] == NAME
        assert scene.scene_classification == str(tile / "R20m" / "SCL.jp2")
        assert (read_window(scene, WHOLE)[0] == dn).all()


class TestPlaces:
    """However a product is pointed at, it is the same scene."""

    @pytest.fixture(params=[0, 8])
    def method(self, request) -> int:
        """Of packing: stored, deflated."""
        return request.param

    def same(self, location: Path, dn: np.ndarray, name: str = NAME) -> None:
        assert is_safe(str(location))
        assert scene_name(location) == name
        scene = open_scene(location, wanted=BANDS)
        assert scene.scene_id == name
        assert scene.offset == (-0.1,) * 4
        assert scene.facts["product_id"] == NAME
        assert {band.nodata for band in scene.bands} == {0}
        values, valid = read_window(scene, WHOLE)
        assert (values == dn).all()
        assert valid.all()

    def test_folder(self, safe, dn, monkeypatch):
        self.same(safe, dn)
        monkeypatch.chdir(safe)
        self.same(Path(), dn)

    def test_folder_around_it(self, safe, dn):
        (safe.parent / "notes.txt").write_text("")
        self.same(safe.parent, dn)

    def test_metadata(self, safe, dn):
        self.same(safe / "MTD_MSIL2A.xml", dn)

    def test_renamed_folder(self, safe, dn):
        self.same(safe.rename(safe.parent / "summer"), dn, "summer")

    @pytest.mark.parametrize("name", [f"{NAME}.zip", f"{NAME}.SAFE.zip", "download.ZIP"])
    def test_archive(self, safe, dn, tmp_path, method, name):
        self.same(zip_safe(safe, tmp_path / name, method=method), dn)

    def test_archive_with_a_folder_around_it(self, safe, dn, tmp_path, method):
        self.same(zip_safe(safe.parent, tmp_path / "a.zip", method=method), dn)

    def test_archive_without_its_folder(self, safe, dn, tmp_path):
        self.same(zip_safe(safe, tmp_path / "summer.SAFE.zip", inside=""), dn, "summer")

    def test_bands_of_an_archive_are_read_inside_it(self, safe, tmp_path):
        archive = zip_safe(safe, tmp_path / "a.zip")
        product = read_safe(str(archive))
        inside = [*product.bands.values(), product.scene_classification, *product.metadata]
        assert all(path.startswith(f"/vsizip/{archive}/{NAME}.SAFE/") for path in inside)
        scene = open_scene(archive, wanted=BANDS)
        assert {stamp[1] for stamp in scene.files} == {archive.stat().st_size}
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "in"]

    def test_folder_and_archive_are_one_scene(self, safe, tmp_path):
        archive = zip_safe(safe, tmp_path / "download.zip")
        with pytest.raises(InputError, match=f"scene id '{NAME}' is there twice"):
            named_once([safe, archive], MapSettings())

    def test_other_inputs_are_none(self, tmp_path, dn):
        folder = tmp_path / "bands"
        folder.mkdir()
        for name, band in zip(BANDS, dn, strict=True):
            write_raster(folder / f"{name}.tif", band[None], descriptions=None)
        assert not is_safe(str(folder))
        assert not is_safe(str(folder / "B04.tif"))
        assert not is_safe(str(tmp_path / "none"))
        assert not is_safe("https://example.org/a.zip")


def refused(location: Path, match: str) -> None:
    """Refuse it by one sentence; what names a scene before it is opened does not stumble."""
    assert scene_name(location)
    with pytest.raises(SceneError, match=match) as caught:
        open_scene(location, wanted=BANDS)
    assert location.name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


class TestRefused:
    def test_missing_band(self, safe):
        Path(read_safe(str(safe)).bands["B08"]).unlink()
        refused(safe, "band B08 is missing: the product has B02, B03, B04, B8A")

    def test_no_band_at_all(self, safe):
        shutil.rmtree(safe / "GRANULE")
        refused(safe, "has no image file of a band, only metadata")

    def test_empty_folder(self, tmp_path):
        root = tmp_path / f"{NAME}.SAFE"
        root.mkdir()
        refused(root, "has no product metadata.*MTD_MSIL2A.xml was wanted")

    def test_no_metadata(self, safe):
        (safe / "MTD_MSIL2A.xml").unlink()
        refused(safe, "has no product metadata")
        renamed = safe.rename(safe.with_suffix(".old"))
        refused(renamed, "has no product metadata")

    def test_a_tile_without_its_product(self, tmp_path, dn):
        for name in ("metadata.xml", "tileInfo.json"):
            (tmp_path / name).write_text("")
        write_band(tmp_path / "R10m" / "B04.jp2", dn[0])
        refused(tmp_path, "the metadata of the tile, but not of its product")

    def test_two_products_in_a_folder(self, safe, dn):
        make_safe(safe.parent, dn, tile="20LNR")
        refused(safe.parent, r"holds 2 products, '.*T20LMR.*', '.*T20LNR.*'; give one of them")

    def test_two_products_in_an_archive(self, safe, dn, tmp_path):
        make_safe(safe.parent, dn, tile="20LNR")
        refused(zip_safe(safe.parent, tmp_path / "a.zip"), "holds 2 products")

    def test_two_metadata(self, safe):
        shutil.copy(safe / "MTD_MSIL2A.xml", safe / "MTD_MSIL1C.xml")
        refused(safe, "metadata of 2 products: MTD_MSIL1C.xml, MTD_MSIL2A.xml")

    def test_mixed_tiles(self, safe):
        image = Path(read_safe(str(safe)).bands["B08"])
        image.rename(image.with_name("T20LNR_20230804T142741_B08_10m.jp2"))
        refused(safe, "image files of 2 MGRS tiles, 20LMR, 20LNR")

    def test_two_granules(self, tmp_path, dn):
        root = make_safe(tmp_path, dn, level="L1C", old=True)
        other = make_safe(tmp_path / "b", dn[::-1], level="L1C", old=True, tile="20LNR")
        shutil.copytree(other / "GRANULE", root / "GRANULE", dirs_exist_ok=True)
        xml = root / Safe("L1C", old=True).xml_name
        change(xml, "</n1:", '<Granules granuleIdentifier="a_T20LNR_N02.04"/></n1:')
        refused(root, "has 2 granules, .*T20LMR.* give the folder of one of them")
        scene = open_scene(root / "GRANULE" / Safe("L1C", "20LNR", old=True).granule, wanted=BANDS)
        assert (read_window(scene, WHOLE)[0] == dn[::-1]).all()
        assert scene.facts["mgrs_tile"] == "20LNR"

    def test_metadata_of_another_tile(self, safe):
        change(safe / "MTD_MSIL2A.xml", "T20LMR_N05", "T31TCJ_N05")
        refused(safe, "image files of MGRS tile 20LMR, but metadata of 31TCJ")

    def test_two_files_for_a_band(self, safe, dn):
        change(safe / "MTD_MSIL2A.xml", "20230804T142741_B04", "20230804T000000_B04")
        image = Path(read_safe(str(safe)).bands["B04"])
        write_band(image.with_name("T20LMR_mine_B04_10m.jp2"), dn[1])
        refused(safe, "2 files for B04 at 10 m")

    def test_wrong_resolution(self, safe, dn):
        write_band(Path(read_safe(str(safe)).bands["B08"]), dn[3, ::2, ::2], 20)
        refused(safe, "its grid .* differs")

    def test_bands_of_two_resolutions(self, safe):
        with pytest.raises(SceneError, match=r"its grid .* 20.0 x 20.0 .* differs"):
            open_scene(safe, wanted=("B04", "B8A"))

    def test_what_is_no_image_inside(self, safe):
        # GDAL would open the raster it names, wherever that is.
        image = Path(read_safe(str(safe)).bands["B04"])
        image.write_text('<VRTDataset rasterXSize="50" rasterYSize="40"></VRTDataset>')
        refused(safe, "B04_10m.jp2: is neither JPEG 2000 nor TIFF inside")

    def test_cut_off_image(self, safe):
        image = Path(read_safe(str(safe)).bands["B04"])
        image.write_bytes(image.read_bytes()[:100])
        refused(safe, "B04_10m.jp2: not a raster that GDAL can open")

    @pytest.mark.parametrize("path", ["../../B04_10m", "/etc/B04_10m", "GRANULE\\B04_10m"])
    def test_image_path_that_leads_out(self, tmp_path, dn, path):
        root = make_safe(tmp_path, dn, extra_images=(path,))
        refused(root, "which leads out of the product")

    def test_bands_by_number(self, safe):
        with pytest.raises(SceneError, match="--bands does not apply"):
            open_scene(safe, wanted=BANDS, bands=(1, 2, 3, 4))


class TestMetadata:
    """What the XML may be."""

    @pytest.mark.parametrize(
        ("edit", "match"),
        [
            (lambda text: text[:-40], "broken or forbidden XML"),
            (lambda text: "", "broken or forbidden XML"),
            (lambda text: text.replace('encoding="UTF-8"', 'encoding="none"'), "or forbidden XML"),
            (lambda text: text.replace("User_Product", "Tile_ID"), "is 'Level-2A_Tile_ID'"),
            (lambda text: text + "<!-- -->" * (2 << 20), "more than 8388608 bytes"),
            (lambda text: text.replace(">10000<", ">many<"), "QUANTIFICATION_VALUE is 'many'"),
            (lambda text: text.replace(">10000<", ">nan<"), "QUANTIFICATION_VALUE is 'nan'"),
            (lambda text: text.replace(">10000<", ">0<"), "QUANTIFICATION_VALUE is '0'"),
            (lambda text: text.replace("BOA_QUANT", "WVP_QUANT"), "QUANTIFICATION_VALUE is None"),
            (lambda text: text.replace('band_id="3">-1000', 'band_id="3">low'), "is 'low' for"),
            (lambda text: text.replace('band_id="3"', 'band_id="99"'), "for band id '99'"),
            (
                lambda text: text.replace('<BOA_ADD_OFFSET band_id="3">-1000</BOA_ADD_OFFSET>', ""),
                "an offset for some bands, but none for B04",
            ),
        ],
    )
    def test_refused(self, safe, edit: Callable[[str], str], match: str):
        xml = safe / "MTD_MSIL2A.xml"
        before = xml.read_text()
        xml.write_text(edit(before))
        assert xml.read_text() != before
        refused(safe, match)

    def test_entities(self, safe):
        xml = safe / "MTD_MSIL2A.xml"
        bomb = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;&b;">]>'
        change(xml, '"no"?>', f'"no"?>{bomb}')
        change(xml, ">10000<", ">&c;<")
        refused(safe, "broken or forbidden XML")

    def test_external_entity(self, safe, tmp_path):
        (tmp_path / "secret").write_text("10000")
        xml = safe / "MTD_MSIL2A.xml"
        doctype = f'<!DOCTYPE a [<!ENTITY c SYSTEM "file://{tmp_path}/secret">]>'
        change(xml, '"no"?>', f'"no"?>{doctype}')
        change(xml, ">10000<", ">&c;<")
        refused(safe, "broken or forbidden XML")

    def test_unknown_baseline_changes_nothing(self, tmp_path, dn):
        scene = open_scene(make_safe(tmp_path, dn, offsets=OFFSETS, baseline="99.99"), wanted=BANDS)
        assert scene.facts["processing_baseline"] == "99.99"
        assert scene.offset == (-0.1,) * 4
        assert scene.notes == ()
        # Whether the toolbox adds one depends on its version.
        root = make_safe(tmp_path / "old", dn, baseline="99.99")
        assert open_scene(root, wanted=BANDS).notes == ()

    @pytest.mark.parametrize("baseline", [None, "new"])
    def test_no_baseline_is_told(self, tmp_path, dn, baseline):
        scene = open_scene(
            make_safe(tmp_path, dn, offsets=OFFSETS, baseline=baseline), wanted=BANDS
        )
        assert "processing_baseline" not in scene.facts
        assert scene.offset == (-0.1,) * 4
        assert any("names no processing baseline" in note for note in scene.notes)

    def test_offset_that_is_not_there_is_told(self, tmp_path, dn):
        scene = open_scene(make_safe(tmp_path, dn, offsets=None, baseline="05.09"), wanted=BANDS)
        assert scene.offset == (0.0,) * 4
        assert any("gives no offset, which products of baseline 05.09" in n for n in scene.notes)

    def test_nonsense_that_nobody_needs(self, safe):
        xml = safe / "MTD_MSIL2A.xml"
        change(xml, ">2023-08-04T14:27:41.024Z<", ">yesterday<")
        change(xml, ">53<", ">inf<")
        change(xml, f">{NAME}.SAFE<", "><![CDATA[<script>]]><")
        scene = open_scene(safe, wanted=BANDS)
        # The product's name tells the time, too.
        assert scene.acquired == datetime(2023, 8, 4, 14, 27, 41, tzinfo=UTC)
        assert not {"orbit", "product_id"} & set(scene.facts)


# What becomes of the real sets of metadata, given bands: they are read, with this offset, or
# refused for what they lack.
_LACKS = "has the metadata of the tile, but not of its product"
REAL = {
    "S2A_MSIL1C_20210908T042701_N0301_R133_T46RER_20210908T070248.SAFE": 0.0,
    "S2A_MSIL2A_20180721T053721_N0212_R062_T43MDV_20201011T181419.SAFE": 0.0,
    "S2A_MSIL2A_20230625T234621_N0509_R073_T01WCP_20230626T022157.SAFE": -0.1,
    "S2A_MSIL2A_20230625T234621_N0509_R073_T01WCP_20230626T022158.SAFE": -0.1,
    "S2A_MSIL2A_20230821T221941_N0509_R029_T01KAB_20230822T021825.SAFE": -0.1,
    "S2A_OPER_MSI_L1C_TL_SGS__20181231T203637_A018414_T10SDG": _LACKS,
    "S2A_OPER_MSI_L2A_DS_2APS_20230105T201055_S20230105T163809": _LACKS,
    "S2A_OPER_MSI_L2A_TL_2APS_20240108T121951_A044635_T34VEL": _LACKS,
    "S2A_OPER_MSI_L2A_TL_SGS__20181231T210250_A018414_T10SDG": _LACKS,
    "S2A_OPER_MSI_L2A_TL_VGS1_20220401T110010_A035382_T34LBP": _LACKS,
    # Its product metadata do say -7000.
    "S2A_OPER_MSI_L2A_TL_VGS1_20220401T110010_A035382_T34LBQ": -0.7,
    "S2A_OPER_MSI_L2A_TL_VGS1_20220401T110010_A035382_T34LBQ-no-tileDataGeometry": -0.7,
    "S2A_OPER_MSI_L2A_TL_VGS1_20220401T110010_A035382_T34LBQ-no-tileDataGeometry"
    "-no-product-metadata": _LACKS,
    "S2B_MSIL2A_20191228T210519_N0212_R071_T01CCV_20201003T104658.SAFE": 0.0,
    "S2B_MSIL2A_20200914T231559_N0500_R087_T01VCG_20230315T224658": _LACKS,
}


@pytest.mark.real_data
class TestReal:
    def test_all_are_looked_at(self, real_data):
        assert {path.name for path in (real_data / "safe-metadata").iterdir()} == set(REAL)

    def with_bands(self, source: Path, root: Path, dn: np.ndarray) -> None:
        """Copy the metadata, and make images as the manifest, the XML or the bucket has them."""
        shutil.copytree(source, root)
        xml = next((path for path in root.glob("MTD_MSIL*.xml")), None)
        if xml is None:
            level_1c = "L1C" in root.name
            images = [("" if level_1c else "R10m/") + name for name in BANDS]
            images += [] if level_1c else ["R20m/SCL"]
        else:
            listed = [part.partition("<")[0] for part in xml.read_text().split("<IMAGE_FILE>")[1:]]
            tiff = 'imageFormat="GeoTIFF"' in xml.read_text()
            images = [
                f"{name}{'.tif' if tiff else ''}"
                for name in listed
                if "_60m" not in name and any(f"_{band}" in name for band in (*BANDS, "SCL"))
            ]
        for image in images:
            layer = next(name for name in (*BANDS, "SCL") if name in Path(image).name)
            coarse = "_20m" in image or "R20m" in image
            band = np.full((40, 50), 4, "uint8") if layer == "SCL" else dn[BANDS.index(layer)]
            path = root / (image if image.endswith(".tif") else f"{image}.jp2")
            write_band(path, band[::2, ::2] if coarse else band, 20 if coarse else 10)

    @pytest.mark.parametrize("name", REAL)
    def test_read_or_refused(self, real_data, tmp_path, dn, name):
        root = tmp_path / name
        self.with_bands(real_data / "safe-metadata" / name, root, dn)
        outcome = REAL[name]
        if isinstance(outcome, str):
            refused(root, outcome)
            return
        scene = open_scene(root, wanted=BANDS)
        product_id = scene.facts["product_id"]
        assert scene.scene_id == name.removesuffix(".SAFE")
        assert product_id == scene.scene_id or "OPER" in name
        level, sensed, baseline, orbit, tile = product_id.split("_")[1:6]
        assert scene.processing_level == level.removeprefix("MSI")
        assert scene.acquired is not None
        assert f"{scene.acquired:%Y%m%dT%H%M%S}" == sensed
        assert scene.facts["processing_baseline"].replace(".", "") == baseline.removeprefix("N")
        assert f"R{scene.facts['orbit']:03d}" == orbit
        assert f"T{scene.facts['mgrs_tile']}" == tile
        assert 0 <= scene.facts["cloud_percent"] <= 100
        assert (scene.scene_classification is None) == (level == "MSIL1C")
        assert (scene.scale, scene.offset) == ((1e-4,) * 4, (outcome,) * 4)
        assert scene.notes == ()
        assert (read_window(scene, WHOLE)[0] == dn).all()

    @pytest.mark.parametrize("name", REAL)
    def test_metadata_alone_are_refused(self, real_data, name):
        outcome = REAL[name]
        match = outcome if isinstance(outcome, str) else "has no image file of a band"
        refused(real_data / "safe-metadata" / name, match)
