"""Areas by unit, held against areas that are known."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from geoforest import area_by_unit, mosaic_maps
from geoforest.arrays.area import PixelTable
from geoforest.arrays.georef import GeoRef
from geoforest.errors import InputError, OutputError
from geoforest.maps.units.areas import as_text
from geoforest.maps.units.zonal import ground_m2
from tests.helpers.maps import write_map

UTM = "EPSG:32720"
LEFT, TOP, PX = 500_000, 9_700_000, 10
SHAPE = (60, 80)
TRANSFORM = Affine(PX, 0, LEFT, 0, -PX, TOP)
FOREST_COLS, UNSEEN_ROWS = 30, 10


def codes(shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Forest in the first columns, nothing seen in the last rows."""
    mask = np.zeros(shape, np.uint8)
    mask[:, :FOREST_COLS] = 1
    mask[-UNSEEN_ROWS:] = 255
    return mask


def write_mask(path: Path, mask: np.ndarray, crs=UTM, transform=TRANSFORM, **options) -> Path:
    height, width = mask.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=1, dtype=mask.dtype,
        crs=crs, transform=transform, **options,
    ) as target:  # fmt: skip
        target.write(mask, 1)
    return path


def pixels(row: float, col: float, height: float, width: float) -> shapely.Polygon:
    """Rectangle in pixels of the map."""
    left, top = LEFT + PX * col, TOP - PX * row
    return shapely.box(left, top - PX * height, left + PX * width, top)


def write_zones(path: Path, shapes: dict | list, crs=UTM, **columns) -> Path:
    names, geometry = zip(*(shapes.items() if isinstance(shapes, dict) else shapes), strict=True)
    frame = geopandas.GeoDataFrame({"name": names, **columns}, geometry=list(geometry), crs=crs)
    frame.to_file(path, layer=path.stem)
    return path


def pixel_areas(transform=TRANSFORM, crs=UTM, shape=SHAPE) -> np.ndarray:
    """Hectares of each pixel."""
    table = PixelTable.build(GeoRef(shape, transform, crs))
    return table.area_m2(slice(0, shape[0]), slice(0, shape[1])) / 1e4


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("units")


@pytest.fixture(scope="module")
def mask(folder) -> Path:
    return write_mask(folder / "mask.tif", codes())


def by_name(areas) -> dict[str, dict]:
    return {row["unit"]: row for row in areas.rows()}


def test_squares_on_pixels_are_exact(mask, tmp_path):
    zones = write_zones(
        tmp_path / "z.gpkg", {"b": pixels(45, 20, 10, 20), "a": pixels(3, 50, 7, 9)}
    )
    areas = area_by_unit(mask, zones, by="name")
    ground = pixel_areas()
    assert areas.frame["unit"].tolist() == ["a", "b"]
    assert areas.notes == ()
    a, b = areas.rows()
    assert a["other_ha"] == a["observed_ha"] == a["total_ha"]
    assert a["other_ha"] == pytest.approx(ground[3:10, 50:59].sum(), rel=1e-12)
    assert (a["forest_ha"], a["unobserved_ha"], a["outside_ha"], a["forest_percent"]) == (0,) * 4
    assert b["forest_ha"] == pytest.approx(ground[45:50, 20:30].sum(), rel=1e-12)
    assert b["other_ha"] == pytest.approx(ground[45:50, 30:40].sum(), rel=1e-12)
    assert b["unobserved_ha"] == pytest.approx(ground[50:55, 20:40].sum(), rel=1e-12)
    assert b["outside_ha"] == 0
    # Of what was seen: half of it is forest, whatever lies under the clouds.
    assert b["forest_percent"] == pytest.approx(50, abs=1e-3)
    assert b["observed_percent"] == pytest.approx(50, abs=1e-3)


def test_a_pixel_cut_in_half_counts_half(mask, tmp_path):
    zones = write_zones(tmp_path / "z.gpkg", {"a": pixels(3.5, 40.25, 1, 1.5)})
    (row,) = area_by_unit(mask, zones, by="name").rows()
    ground = pixel_areas()
    expected = (ground[3:5, 40].sum() * 0.75 + ground[3:5, 41].sum() * 0.75) / 2
    assert row["other_ha"] == pytest.approx(expected, rel=1e-7)


POINT = st.tuples(
    st.floats(-8, SHAPE[0] + 8, allow_nan=False), st.floats(-8, SHAPE[1] + 8, allow_nan=False)
)


@settings(max_examples=40, deadline=None)
@given(st.tuples(POINT, POINT, POINT))
def test_any_triangle_as_shapely_cuts_it(folder, mask, corners):
    triangle = shapely.Polygon([(LEFT + PX * col, TOP - PX * row) for row, col in corners])
    grid = pixels(0, 0, *SHAPE)
    if triangle.intersection(grid).area < PX * PX:
        return
    zones = folder / "triangle.fgb"
    zones.unlink(missing_ok=True)
    write_zones(zones, {"a": triangle})
    (row,) = area_by_unit(mask, zones, by="name").rows()
    rows, cols = np.indices(SHAPE)
    left, top = LEFT + PX * cols, TOP - PX * rows
    cells = shapely.box(left, top - PX, left + PX, top)
    share = shapely.area(shapely.intersection(cells, triangle)) / PX**2
    ground = pixel_areas() * share
    found = [row["other_ha"], row["forest_ha"], row["unobserved_ha"]]
    # Shares of pixels are kept in single precision.
    assert found == pytest.approx([ground[codes() == code].sum() for code in (0, 1, 255)], abs=1e-6)
    assert row["outside_ha"] == pytest.approx(
        triangle.difference(grid).area / 1e4 * ground.sum() / (share.sum() * PX**2 / 1e4),
        rel=1e-3, abs=1e-4,
    )  # fmt: skip


def test_a_grid_in_degrees(tmp_path):
    transform = Affine(1e-4, 0, -63, 0, -1e-4, -3)
    mask = write_mask(tmp_path / "m.tif", codes(), "EPSG:4326", transform)
    square = shapely.box(-63 + 20e-4, -3 - 45e-4, -63 + 40e-4, -3 - 5e-4)
    zones = write_zones(tmp_path / "z.geojson", {"a": square}, "EPSG:4326")
    (row,) = area_by_unit(mask, zones, by="name").rows()
    ground = pixel_areas(transform, "EPSG:4326")
    assert row["forest_ha"] == pytest.approx(ground[5:45, 20:30].sum(), rel=1e-7)
    assert row["other_ha"] == pytest.approx(ground[5:45, 30:40].sum(), rel=1e-7)
    assert row["outside_ha"] == 0
    geod = pyproj.Geod(ellps="WGS84")
    truth = abs(geod.geometry_area_perimeter(square.segmentize(1e-4))[0]) / 1e4
    assert row["total_ha"] == pytest.approx(truth, rel=1e-6)


def test_units_in_degrees_on_a_grid_in_metres(mask, tmp_path):
    box = shapely.box(-62.9985, -2.7180, -62.9945, -2.7145)
    zones = write_zones(tmp_path / "z.gpkg", {"a": box}, "EPSG:4326")
    (row,) = area_by_unit(mask, zones, by="name").rows()
    geod = pyproj.Geod(ellps="WGS84")
    truth = abs(geod.geometry_area_perimeter(box.segmentize(1e-4))[0]) / 1e4
    assert row["outside_ha"] == 0
    assert row["total_ha"] == pytest.approx(truth, rel=1e-5)


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_bundle) -> Path:
    """A map with a cloud; larger than a block of the work would be if it were a strip."""
    out = tmp_path_factory.mktemp("map") / "maps"
    return write_map(
        out, "one", tiny_bundle.path, [shapely.box(-63.0, -2.7220, -62.9885, -2.7125)],
        unseen=[shapely.box(-62.9930, -2.7150, -62.9910, -2.7135)],
        epsg=32720, left=LEFT, top=TOP, shape=(150, 210),
    )  # fmt: skip


@pytest.mark.parametrize("crs", [UTM, "EPSG:4326", "EPSG:5880"])
@pytest.mark.parametrize("block", [2048, 64])
def test_units_that_partition_the_map_add_up(made, tmp_path, crs, block, monkeypatch):
    monkeypatch.setattr("geoforest.maps.units.zonal._BLOCK_PX", block)
    points = np.random.default_rng(3).random((12, 2)) * (2300, 1700) + (LEFT - 100, TOP - 1600)
    cells = shapely.voronoi_polygons(
        shapely.MultiPoint(points), extend_to=pixels(-20, -20, 190, 250)
    )
    frame = geopandas.GeoDataFrame(
        {"name": range(len(cells.geoms))}, geometry=list(cells.geoms), crs=UTM
    ).to_crs(crs)
    frame.to_file(tmp_path / "z.gpkg", layer="z")
    areas = area_by_unit(made, tmp_path / "z.gpkg", by="name")
    assert not any("overlap" in note for note in areas.notes)
    summary = json.loads((made / "summary.json").read_text())
    for name in ("forest", "other", "observed"):
        total = areas.frame[f"{name}_ha"].sum()
        assert total == pytest.approx(summary["hectares"][name], rel=1e-6)
    inside = areas.frame["observed_ha"].sum() + areas.frame["unobserved_ha"].sum()
    assert inside == pytest.approx(pixel_areas(shape=(150, 210)).sum(), rel=1e-6)


def test_ground_of_a_unit_counts_once_and_of_two_units_twice(mask, tmp_path):
    square, beside = pixels(5, 40, 10, 10), pixels(10, 45, 10, 10)
    zones = write_zones(
        tmp_path / "z.gpkg", [("a", square), ("a", beside), ("a", square), ("b", square)]
    )
    areas = area_by_unit(mask, zones, by="name")
    found, ground = by_name(areas), pixel_areas()
    union = ground[5:15, 40:50].sum() + ground[10:20, 45:55].sum() - ground[10:15, 45:50].sum()
    assert found["a"]["other_ha"] == pytest.approx(union, rel=1e-7)
    assert found["b"]["other_ha"] == pytest.approx(ground[5:15, 40:50].sum(), rel=1e-12)
    assert any("overlap each other" in note for note in areas.notes)


def test_a_unit_far_larger_than_the_map(mask, tmp_path):
    brazil = shapely.box(-74, -33, -34, 5).difference(shapely.Point(-60, -10).buffer(1))
    zones = write_zones(tmp_path / "z.gpkg", {"a": brazil}, "EPSG:4326")
    (row,) = area_by_unit(mask, zones, by="name").rows()
    ground, found = pixel_areas(), codes()
    assert row["forest_ha"] == pytest.approx(ground[found == 1].sum(), rel=1e-9)
    assert row["unobserved_ha"] == pytest.approx(ground[found == 255].sum(), rel=1e-9)
    geod = pyproj.Geod(ellps="WGS84")
    oriented = shapely.orient_polygons(brazil.segmentize(0.01))
    truth = geod.geometry_area_perimeter(oriented)[0] / 1e4
    assert row["total_ha"] == pytest.approx(truth, rel=1e-6)
    assert row["outside_ha"] == pytest.approx(truth - ground.sum(), rel=1e-6)


@pytest.mark.real_data
def test_real_mask_in_quarters(real_data, tmp_path):
    source = real_data / "scenes" / "mahakam-mangrove" / "truth.tif"
    with rasterio.open(source) as raster:
        mask, transform, crs = raster.read(1), raster.transform, raster.crs
        left, bottom, right, top = raster.bounds
    x, y = left + 0.37 * (right - left), bottom + 0.61 * (top - bottom)
    quarters = {
        "nw": shapely.box(left, y, x, top), "ne": shapely.box(x, y, right, top),
        "sw": shapely.box(left, bottom, x, y), "se": shapely.box(x, bottom, right, y),
    }  # fmt: skip
    zones = write_zones(tmp_path / "z.gpkg", quarters, crs)
    frame = area_by_unit(source, zones, by="name").frame
    ground = pixel_areas(transform, crs, mask.shape)
    for name, code in (("forest", 1), ("other", 0), ("unobserved", 255)):
        assert frame[f"{name}_ha"].sum() == pytest.approx(ground[mask == code].sum(), rel=1e-7)
    assert frame["outside_ha"].sum() == 0


def test_a_mosaic_over_two_zones_adds_up(tiny_bundle, tmp_path):
    """The meridian of 60 W cuts pixels of both zones; each piece of ground counts once."""
    forest = [shapely.box(-60.04, -2.76, -59.97, -2.71)]
    for epsg in (32720, 32721):
        x, y = pyproj.Transformer.from_crs(4326, epsg, always_xy=True).transform(-60, -2.7125)
        left, top = round(x / 100) * 100 - 7000, round(y / 100) * 100 + 4000
        write_map(
            tmp_path / "maps", f"m{epsg}", tiny_bundle.path, forest, epsg=epsg, left=left, top=top,
            shape=(100, 140), size=100,
        )  # fmt: skip
    folder = mosaic_maps([tmp_path / "maps"], tmp_path / "mosaic").folder
    halves = shapely.box(-60.2, -2.9, -60.01, -2.6), shapely.box(-60.01, -2.9, -59.8, -2.6)
    zones = write_zones(
        tmp_path / "z.gpkg",
        {"all": shapely.box(-60.2, -2.9, -59.8, -2.6), "west": halves[0], "east": halves[1]},
        "EPSG:4326",
    )
    found = by_name(area_by_unit(folder, zones, by="name"))
    recorded = json.loads((folder / "mosaic.json").read_text())["hectares"]
    for name in ("forest", "other"):
        assert found["all"][f"{name}_ha"] == pytest.approx(recorded[name], rel=1e-5)
        parts = found["west"][f"{name}_ha"] + found["east"][f"{name}_ha"]
        assert found["all"][f"{name}_ha"] == pytest.approx(parts, rel=1e-6)


class TestFields:
    def test_whole_numbers_with_gaps_stay_whole(self, mask, tmp_path):
        shapes = [(10.0, pixels(0, 0, 5, 5)), (9.0, pixels(5, 5, 5, 5)), (None, pixels(9, 9, 5, 5))]
        zones = write_zones(tmp_path / "z.gpkg", shapes)
        areas = area_by_unit(mask, zones, by="name")
        assert areas.frame["unit"].tolist() == ["9", "10", "(none)"]
        assert any("features without a value of name are the unit (none)" in n for n in areas.notes)

    def test_empty_texts_are_none(self, mask, tmp_path):
        zones = write_zones(
            tmp_path / "z.gpkg", [("", pixels(0, 0, 5, 5)), (None, pixels(5, 5, 5, 5))]
        )
        assert area_by_unit(mask, zones, by="name").frame["unit"].tolist() == ["(none)"]

    def test_invalid_polygons_are_mended_and_other_geometries_left_out(self, mask, tmp_path):
        corners = [(40, 5), (50, 15), (50, 5), (40, 15)]
        bow = shapely.Polygon([(LEFT + PX * col, TOP - PX * row) for col, row in corners])
        far = pixels(4000, 4000, 5, 5)
        zones = tmp_path / "z.geojson"
        shapes = [("a", bow), ("p", shapely.Point(LEFT + 5, TOP - 5)), ("f", far), ("n", None)]
        geopandas.GeoDataFrame(
            {"name": [name for name, _ in shapes]}, geometry=[s for _, s in shapes], crs=UTM
        ).to_crs(4326).to_file(zones)
        areas = area_by_unit(mask, zones, by="name")
        (row,) = areas.rows()
        assert row["other_ha"] == pytest.approx(0.5, rel=1e-2)
        assert any("1 polygons are not valid" in note for note in areas.notes)
        assert any("1 units beside the map" in note for note in areas.notes)
        assert any("2 features that are no polygons are left out" in note for note in areas.notes)

    def test_one_layer_of_several(self, mask, tmp_path):
        zones = tmp_path / "z.gpkg"
        for layer, field in (("states", "uf"), ("towns", "town"), ("parks", "town")):
            geopandas.GeoDataFrame({field: ["x"]}, geometry=[pixels(0, 0, 5, 5)], crs=UTM).to_file(
                zones, layer=layer
            )
        assert len(area_by_unit(mask, zones, by="uf").frame) == 1
        with pytest.raises(InputError, match=r"2 layers have a field 'town': .*--layer"):
            area_by_unit(mask, zones, by="town")
        assert len(area_by_unit(mask, zones, by="town", layer="parks").frame) == 1
        with pytest.raises(InputError, match=r"no field 'name' .*states has uf; towns has town"):
            area_by_unit(mask, zones, by="name")
        with pytest.raises(InputError, match="no layer 'x' with geometries; it has states, towns"):
            area_by_unit(mask, zones, by="uf", layer="x")


class TestOutputs:
    @pytest.fixture
    def zones(self, tmp_path) -> Path:
        shapes = {'Sé, "x"': pixels(0, 0, 20, 40), "b": pixels(52, 0, 5, 5)}
        return write_zones(tmp_path / "z.gpkg", shapes)

    def test_csv(self, mask, zones, tmp_path):
        out = tmp_path / "new" / "units.csv"
        areas = area_by_unit(mask, zones, by="name", out=out)
        with out.open(encoding="utf-8", newline="") as handle:
            rows = list(csv.DictReader(handle))
        assert [row["unit"] for row in rows] == ['Sé, "x"', "b"]
        for row, known in zip(rows, areas.rows(), strict=True):
            for name, value in known.items():
                if isinstance(value, float):
                    # A tenth of a square metre is more than the pixels tell.
                    assert float(row[name]) == pytest.approx(value, abs=6e-5)
                    assert len(row[name].partition(".")[2]) <= 6
                else:
                    assert row[name] == ("" if value is None else value)
        assert areas.rows()[1]["forest_percent"] is None is not areas.rows()[0]["forest_percent"]
        assert as_text(areas.rows()).splitlines()[2].split()[-2:] == ["-", "0.0"]

    def test_geopackage(self, mask, zones, tmp_path):
        out = tmp_path / "units.gpkg"
        areas = area_by_unit(mask, zones, by="name", out=out)
        frame = geopandas.read_file(out, layer="forest_area")
        assert frame.crs == UTM
        assert frame.geom_type.unique().tolist() == ["MultiPolygon"]
        assert frame["forest_ha"].tolist() == areas.frame["forest_ha"].tolist()
        assert math.isnan(frame["forest_percent"][1])
        style = geopandas.read_file(out, layer="layer_styles")["styleQML"].iloc[0]
        assert 'type="graduatedSymbol" attr="forest_percent"' in style
        first = out.read_bytes()
        area_by_unit(mask, zones, by="name", out=out)
        assert out.read_bytes() == first

    def test_nothing_of_the_users_is_overwritten(self, mask, zones, tmp_path):
        before = zones.read_bytes()
        for out in (zones, mask.with_suffix(".gpkg.x"), tmp_path / "t.txt", tmp_path):
            with pytest.raises(OutputError):
                area_by_unit(mask, zones, by="name", out=out)
        other = write_zones(tmp_path / "other.gpkg", {"a": pixels(0, 0, 1, 1)})
        with pytest.raises(OutputError, match="no GeoPackage of the one layer forest_area"):
            area_by_unit(mask, zones, by="name", out=other)
        with pytest.raises(OutputError, match=r"\.png was wanted"):
            area_by_unit(mask, zones, by="name", figure=tmp_path / "f.jpg")
        assert zones.read_bytes() == before


class TestMistakes:
    @pytest.fixture
    def zones(self, tmp_path) -> Path:
        return write_zones(tmp_path / "good.gpkg", {"a": pixels(0, 0, 5, 5)})

    def refused(self, source, zones, sentence, tmp_path, by="name"):
        out = tmp_path / "out.csv"
        with pytest.raises(InputError, match=sentence):
            area_by_unit(source, zones, by=by, out=out, figure=tmp_path / "f.png")
        assert not out.exists()
        assert not (tmp_path / "f.png").exists()

    def test_zones(self, mask, zones, tmp_path):
        self.refused(mask, tmp_path / "z.gpkg", "no such file .--zones", tmp_path)
        self.refused(mask, mask, "not a vector file", tmp_path)
        self.refused(mask, zones, "no field 'nome' .--by.; good has name", tmp_path, by="nome")
        far = write_zones(tmp_path / "far.gpkg", {"a": pixels(900, 900, 5, 5)})
        self.refused(mask, far, r"no unit touches .*mask\.tif, whose bounds are", tmp_path)
        points = write_zones(tmp_path / "p.gpkg", {"a": shapely.Point(LEFT, TOP)})
        self.refused(mask, points, "holds no polygon", tmp_path)
        frame = geopandas.GeoDataFrame({"name": ["a"]}, geometry=[pixels(0, 0, 5, 5)])
        with pytest.warns(UserWarning, match="crs"):
            frame.to_file(tmp_path / "nocrs.shp")
        self.refused(mask, tmp_path / "nocrs.shp", "no geometries with a CRS", tmp_path)
        line = shapely.Polygon([(LEFT, TOP), (LEFT + 50, TOP - 50), (LEFT, TOP)])
        flat = write_zones(tmp_path / "flat.gpkg", {"a": line})
        self.refused(mask, flat, "no polygon with an area", tmp_path)

    def test_maps(self, mask, made, zones, tmp_path):
        self.refused(tmp_path / "m.tif", zones, "no such file", tmp_path)
        self.refused(zones, zones, "not a raster", tmp_path)
        self.refused("https://host/m.tif?key=1", zones, "is a URL", tmp_path)
        strange = codes()
        strange[3, 4] = 7
        strange = write_mask(tmp_path / "s.tif", strange)
        self.refused(strange, zones, "value 7; a mask of 0, 1 and 255", tmp_path)
        wide = write_mask(tmp_path / "w.tif", codes().astype(np.int16))
        self.refused(wide, zones, r"1 band\(s\) of int16", tmp_path)
        self.refused(made / "forest_probability.tif", zones, "is a stored probability", tmp_path)
        nowhere = write_mask(tmp_path / "n.tif", codes(), None)
        self.refused(nowhere, zones, "has no CRS", tmp_path)
        turned = write_mask(tmp_path / "t.tif", codes(), transform=TRANSFORM @ Affine.rotation(5))
        self.refused(turned, zones, "north-up", tmp_path)
        bare = tmp_path / "bare"
        bare.mkdir()
        (bare / "forest_mask.tif").write_bytes(mask.read_bytes())
        self.refused(bare, zones, r"no finished map, as job\.json is not there", tmp_path)


@pytest.mark.parametrize(
    ("bounds", "km2"),
    [
        ((-180, -90, 180, 90), 510_065_621.7),
        ((-170, -60, 170, 60), 416_700_000),
        ((0, 0, 1, 1), None),
    ],
)
def test_ground_of_more_than_half_the_earth(bounds, km2):
    units = geopandas.GeoDataFrame(geometry=[shapely.box(*bounds)], crs=4326)
    found = ground_m2(units, pyproj.CRS.from_epsg(4326))[0] / 1e6
    # On a cylinder of equal areas.
    move = pyproj.Transformer.from_crs(4326, "+proj=cea +ellps=WGS84", always_xy=True)
    fine = shapely.segmentize(units.geometry.iloc[0], 0.01)
    flat = shapely.transform(fine, lambda points: np.column_stack(move.transform(*points.T)))
    assert found == pytest.approx(flat.area / 1e6, rel=1e-5)
    if km2 is not None:
        assert found == pytest.approx(km2, rel=1e-3)
