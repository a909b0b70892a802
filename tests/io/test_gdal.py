"""The environment decides nothing: what is read is the same with any settings of GDAL."""

from __future__ import annotations

import ast
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
from rasterio.env import get_gdal_config
from rasterio.errors import RasterioIOError

import geoforest
from geoforest.errors import InputError
from geoforest.io.gdal import VECTORS, check_installation, pinned_vectors
from geoforest.io.polygon_files import read_outline
from geoforest.io.raster import open_raster
from tests.helpers import synthetic

SHAPE = (64, 80)
SEEN = np.full(SHAPE, 255, np.uint8)
SEEN[:16] = 0
WORLD = "20\n0\n0\n-20\n600010\n9000000\n"
"""Pixels of 20 m, whose corner is not where the tags of the file put it."""
NODATA = "<PAMDataset><PAMRasterBand band='1'><NoDataValue>7</NoDataValue></PAMRasterBand>"
SETTINGS = (
    ("GDAL_DISABLE_READDIR_ON_OPEN", "EMPTY_DIR"),
    ("GDAL_PAM_ENABLED", "NO"),
    ("GDAL_GEOREF_SOURCES", "WORLDFILE,INTERNAL"),
    ("GTIFF_FORCE_RGBA", "YES"),
    ("GTIFF_POINT_GEO_IGNORE", "YES"),
    ("GDAL_TIFF_INTERNAL_MASK_TO_8BIT", "NO"),
    ("GDAL_RASTERIO_RESAMPLING", "AVERAGE"),
    ("GTIFF_HONOUR_NEGATIVE_SCALEY", "YES"),
)


def _mask_beside(path: Path, dn: np.ndarray) -> None:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False):
        synthetic.write_raster(path, dn)
        with rasterio.open(path, "r+") as target:
            target.write_mask(SEEN)


def _mask_inside(path: Path, dn: np.ndarray) -> None:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        synthetic.write_raster(path, dn)
        with rasterio.open(path, "r+") as target:
            target.write_mask(SEEN)


def _nodata_beside(path: Path, dn: np.ndarray) -> None:
    synthetic.write_raster(path, dn, photometric="minisblack")
    Path(f"{path}.aux.xml").write_text(NODATA + "</PAMDataset>")


def _place_beside(path: Path, dn: np.ndarray) -> None:
    synthetic.write_raster(path, dn)
    path.with_suffix(".tfw").write_text(WORLD)


def _centres(path: Path, dn: np.ndarray) -> None:
    synthetic.write_raster(path, dn)
    with rasterio.open(path, "r+") as target:
        target.update_tags(AREA_OR_POINT="Point")


KINDS = (_mask_beside, _mask_inside, _nodata_beside, _place_beside, _centres)


def facts(path: Path) -> list[Any]:
    """What decides the pixels of a raster, read whole and decimated."""
    small = (SHAPE[0] // 4, SHAPE[1] // 4)
    with open_raster(path) as source:
        return [
            source.count,
            source.nodatavals,
            tuple(source.transform),
            source.crs.to_epsg(),
            [[flag.name for flag in flags] for flags in source.mask_flag_enums],
            source.read().tolist(),
            source.read_masks(1).tolist(),
            source.read(1, out_shape=small).tolist(),
            source.read_masks(1, out_shape=small).tolist(),
        ]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__)
def raster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raster") / "scene.tif"
    request.param(path, synthetic.digital_numbers(SHAPE, dtype="uint8"))
    return path


def test_pinned_settings_are_those_of_gdal(raster: Path) -> None:
    ours = facts(raster)
    with rasterio.open(raster) as source:
        assert source.nodatavals == ours[1]
        assert tuple(source.transform) == ours[2]
        assert [[flag.name for flag in flags] for flags in source.mask_flag_enums] == ours[4]
        assert source.read_masks(1).tolist() == ours[6]


@pytest.mark.parametrize(("name", "value"), SETTINGS)
def test_no_variable_changes_what_is_read(
    raster: Path, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = facts(raster)
    monkeypatch.setenv(name, value)
    assert facts(raster) == wanted
    # Variables stay variables, for other code of the process.
    monkeypatch.delenv(name)
    assert get_gdal_config(name) is None


def test_nor_does_an_outer_environment(raster: Path) -> None:
    wanted = facts(raster)
    with rasterio.Env(**dict(SETTINGS)):
        assert facts(raster) == wanted
        # It is as it was when the block ends, for the user's own reads.
        with rasterio.open(raster) as source:
            assert [Path(file).name for file in source.files] == ["scene.tif"]


def test_nor_does_a_configuration_file(tmp_path: Path) -> None:
    _mask_beside(tmp_path / "a.tif", synthetic.digital_numbers(SHAPE))
    rc = tmp_path / "gdalrc"
    rc.write_text("[configoptions]\nGDAL_DISABLE_READDIR_ON_OPEN=EMPTY_DIR\n")
    code = (
        "import sys; from geoforest.io.raster import open_raster\n"
        "with open_raster(sys.argv[1]) as source: print(int(source.read_masks(1).sum()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.tif")],
        env={**os.environ, "GDAL_CONFIG_FILE": str(rc)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == int(SEEN.sum())


@pytest.mark.parametrize("virtual", [False, True])
def test_a_block_that_cannot_be_read_is_an_error(
    tmp_path: Path, virtual: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "scene.tif"
    dn = synthetic.digital_numbers((256, 256))
    synthetic.write_raster(path, dn, tiled=True, blockxsize=64, blockysize=64)
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes(4000) + whole[middle + 4000 :])
    if virtual:
        vrt = tmp_path / "scene.vrt"
        vrt.write_text(
            '<VRTDataset rasterXSize="256" rasterYSize="256"><VRTRasterBand dataType="UInt16" '
            'band="1"><SimpleSource><SourceFilename relativeToVRT="1">scene.tif</SourceFilename>'
            "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
        )
        path = vrt
    monkeypatch.setenv("GTIFF_IGNORE_READ_ERRORS", "YES")
    with open_raster(path) as source, pytest.raises(RasterioIOError):
        source.read()


def test_no_variable_changes_polygons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    square = [[[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]]]
    path = tmp_path / "aoi.geojson"
    feature = {
        "type": "Feature",
        "properties": {},
        "geometry": {"type": "Polygon", "coordinates": square},
    }
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    wanted = read_outline(path).polygons.to_wkt().tolist()
    monkeypatch.setenv("GEOMETRY_AS_COLLECTION", "YES")
    assert read_outline(path).polygons.to_wkt().tolist() == wanted
    assert pyogrio.get_gdal_config_option("GEOMETRY_AS_COLLECTION") == "YES"  # the user's again


def test_settings_of_vectors_are_restored_by_the_last_block() -> None:
    before = {name: pyogrio.get_gdal_config_option(name) for name in VECTORS}
    outer, inner = pinned_vectors(), pinned_vectors()
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    assert pyogrio.get_gdal_config_option("OGR_TABLE_LIMIT") == 10_000
    inner.__exit__(None, None, None)
    assert {name: pyogrio.get_gdal_config_option(name) for name in VECTORS} == before


def _empty(folder: Path) -> None:
    folder.mkdir()


def _garbage(folder: Path) -> None:
    folder.mkdir()
    (folder / "proj.db").write_bytes(b"no database" * 100)


def _older(folder: Path) -> None:
    folder.mkdir()
    own = Path(rasterio.__file__).parent / "proj_data" / "proj.db"
    shutil.copyfile(own, folder / "proj.db")
    with sqlite3.connect(folder / "proj.db") as database:
        database.execute(
            "UPDATE metadata SET value = 1 WHERE key = 'DATABASE.LAYOUT.VERSION.MINOR'"
        )


def _absent(folder: Path) -> None:
    del folder


@pytest.mark.parametrize("name", ["PROJ_DATA", "PROJ_LIB"])
@pytest.mark.parametrize("make", [_empty, _garbage, _older, _absent])
def test_proj_of_another_installation(
    tmp_path: Path, make: Callable[[Path], None], name: str
) -> None:
    folder = tmp_path / "proj"
    make(folder)
    synthetic.write_raster(tmp_path / "scene.tif", synthetic.digital_numbers(SHAPE))
    code = (
        "import sys; from geoforest.errors import InputError\n"
        "from geoforest.io.raster import open_raster\n"
        "try: open_raster(sys.argv[1])\n"
        "except InputError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "scene.tif")],
        env={**os.environ, name: str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f"PROJ's database, {name}={folder}, is damaged or of another")
    assert done.stdout.endswith(f"; unset {name}\n")
    assert done.stdout.count("\n") == 1


def test_rasters_are_read_through_open_raster_only() -> None:
    """rasterio.open reads with the settings of the environment; it may only write."""
    package = Path(geoforest.__file__).parent
    for path in package.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
                continue
            if ast.unparse(call.func) == "rasterio.open":
                assert len(call.args) > 1, f"{path}:{call.lineno}"
                assert ast.unparse(call.args[1]) == "'w'", f"{path}:{call.lineno}"


def test_a_format_that_is_switched_off() -> None:
    code = "from geoforest.io.gdal import check_installation; check_installation()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "GDAL_SKIP": "JP2OpenJPEG"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "does not know the format JP2OpenJPEG: GDAL_SKIP=JP2OpenJPEG" in done.stderr


def test_this_installation_is_usable() -> None:
    try:
        check_installation()
    except InputError as error:  # pragma: no cover
        pytest.fail(str(error))
