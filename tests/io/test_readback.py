"""Failed writes that GDAL does not report are found before a file counts as written."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS

from geoforest.arrays.georef import GeoRef
from geoforest.arrays.grid import Window
from geoforest.errors import WriteError
from geoforest.io.cog import CountWriter, MaskWriter, PercentWriter, ProbabilityWriter
from geoforest.io.readback import PixelSums, check_cog
from geoforest.io.vectors import write_polygons
from tests.helpers.full_disk import survive_full_disks

UTM = CRS.from_epsg(32720)


def georef(shape: tuple[int, int], crs: CRS | None = UTM) -> GeoRef:
    return GeoRef(shape, Affine(10, 0, 500_000, 0, -10, 9_000_000), crs)


def noise(shape: tuple[int, int], most: int, nodata: int) -> np.ndarray:
    """Values from 0 to ``most``, and half of them nodata, above all in the north."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, most + 1, shape).astype(np.uint8)
    unseen = rng.random(shape) < 0.5
    unseen[: shape[0] // 3] = True
    values[unseen] = nodata
    return values


class Mask:
    """A mask with one overview."""

    error = WriteError

    def write(self, folder: Path) -> None:
        values = noise((600, 300), 1, 255)
        values[300:] = 1
        with MaskWriter(folder / "mask.tif", georef=georef(values.shape), tags={"A": "b"}) as to:
            to.write(Window(0, 0, *values.shape), values)
            to.finish()

    def read(self, folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}


class GeoPackage:
    """A few hundred polygons."""

    error = WriteError
    suffix = ".gpkg"

    def write(self, folder: Path) -> None:
        boxes = [shapely.box(at, 0, at + 1, 1 + at % 3) for at in range(400)]
        frame = geopandas.GeoDataFrame({"n": range(400)}, geometry=boxes, crs=UTM.to_wkt())
        write_polygons([frame[:300], frame[300:]], folder / f"a{self.suffix}")

    def read(self, folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}


class FlatGeobuf(GeoPackage):
    """The same."""

    suffix = ".fgb"


class GeoParquet(GeoPackage):
    """The same."""

    suffix = ".parquet"


@pytest.mark.slow
@pytest.mark.parametrize("writer", [Mask, GeoPackage, FlatGeobuf, GeoParquet])
def test_a_disk_that_is_full_for_a_moment(tmp_path, writer):
    assert survive_full_disks(writer, tmp_path, 12) > 1


@pytest.mark.parametrize("shape", [(1, 1), (512, 512), (513, 40), (1101, 703)])
@pytest.mark.parametrize(
    ("writer", "most", "nodata"),
    [(MaskWriter, 1, 255), (ProbabilityWriter, 250, 255), (CountWriter, 3, 0),
     (PercentWriter, 100, 255)],
)  # fmt: skip
def test_sound_files_pass(tmp_path, shape, writer, most, nodata):
    values = noise(shape, most, nodata)
    for crs in (UTM, None):
        with writer(tmp_path / "a.tif", georef=georef(shape, crs), tags={"A": "b"}) as target:
            for row in range(0, shape[0], 300):
                window = Window(row, 0, min(300, shape[0] - row), shape[1])
                target.write(window, values[window.slices])
            target.finish()


class TestDamage:
    @pytest.fixture
    def written(self, tmp_path) -> tuple[Path, PixelSums]:
        values = noise((1101, 703), 250, 255)
        with ProbabilityWriter(tmp_path / "a.tif", georef=georef(values.shape), tags={}) as target:
            target.write(Window(0, 0, *values.shape), values)
            target.finish()
        sums = PixelSums(values.shape)
        sums.add(Window(0, 0, *values.shape), values)
        return tmp_path / "a.tif", sums

    def check(self, path: Path, sums: PixelSums) -> None:
        check_cog(path, sums, georef((1101, 703)), {}, 512)

    def test_none(self, written):
        self.check(*written)

    def test_cut_short(self, written):
        path, sums = written
        data = path.read_bytes()
        for size in (len(data) - 1, len(data) // 2, 900):
            path.write_bytes(data[:size])
            with pytest.raises(WriteError, match="does not read back as it was written"):
                self.check(path, sums)

    def test_pixels_that_changed_places(self, written):
        path, _ = written
        values = noise((1101, 703), 250, 255)
        moved = PixelSums(values.shape)
        moved.add(Window(0, 0, *values.shape), values[:, ::-1].copy())
        with pytest.raises(WriteError, match="pixels differ"):
            self.check(path, moved)

    def test_an_overview_of_nothing(self, written):
        import rasterio

        path, sums = written
        with rasterio.open(path, "r+", overview_level=0, IGNORE_COG_LAYOUT_BREAK=True) as target:
            target.write(np.zeros(target.shape, np.uint8), 1)
        with pytest.raises(WriteError, match="does not read back as it was written"):
            self.check(path, sums)

    def test_another_place(self, written):
        path, sums = written
        other = GeoRef((1101, 703), Affine(10, 0, 500_010, 0, -10, 9_000_000), UTM)
        with pytest.raises(WriteError, match="its transform is"):
            check_cog(path, sums, other, {}, 512)
        with pytest.raises(WriteError, match="its tag MODEL is None"):
            check_cog(path, sums, georef((1101, 703)), {"MODEL": "x"}, 512)
