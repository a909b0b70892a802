"""No polygon of a vector file gets lost, and what cannot be right is said."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import pytest
import shapely
from shapely import GeometryCollection, LineString, MultiPolygon, Point, box

from geoforest.errors import InputError
from geoforest.io.polygon_files import open_vectors, polygons_in, read_outline, where_they_are

UTM = "EPSG:32720"
LEFT, RIGHT = box(0, 0, 10, 10), box(20, 0, 30, 10)


def write(path: Path, *shapes: shapely.Geometry | None, crs: str | None = UTM, **options) -> Path:
    geopandas.GeoDataFrame({"n": range(len(shapes))}, geometry=list(shapes), crs=crs).to_file(
        path, **options
    )
    return path


def test_polygons_inside_collections(tmp_path):
    nested = GeometryCollection(
        [Point(1, 1), GeometryCollection([LineString([(0, 0), (9, 9)]), RIGHT])]
    )
    path = write(tmp_path / "a.gpkg", LEFT, nested, Point(5, 5), None)
    found = read_outline(path)
    assert found.polygons.union_all().equals(shapely.union(LEFT, RIGHT))
    assert found.notes == (f"{path}: 2 features that are no polygons are left out",)
    assert read_outline(write(tmp_path / "b.gpkg", nested)).polygons.union_all().equals(RIGHT)
    kinds = shapely.get_type_id(polygons_in([LEFT, nested, None, Point(0, 0)])).tolist()
    assert kinds == [3, 6, 6, 6]


def test_the_polygons_of_all_layers(tmp_path):
    path = tmp_path / "a.gpkg"
    write(path, Point(1, 1), layer="points")
    write(path, LEFT, layer="one")
    moved = geopandas.GeoSeries([RIGHT], crs=UTM).to_crs(4326).iloc[0]
    write(path, moved, crs="EPSG:4326", layer="two")
    found = read_outline(path)
    assert found.polygons.crs == UTM
    assert found.polygons.area.sum() == pytest.approx(200, rel=1e-6)
    assert found.notes == (
        f"{path}: 1 features that are no polygons are left out",
        f"{path}: the polygons of all its 2 layers are taken: one, two",
    )


def test_ground_that_two_parts_of_one_feature_cover_stays(tmp_path):
    both = MultiPolygon([box(0, 0, 20, 20), box(10, 10, 30, 30)])
    found = read_outline(write(tmp_path / "a.gpkg", both))
    assert found.merged(box(-100, -100, 100, 100), UTM, 100).area == 700
    assert found.clipped(box(10, 10, 20, 20), UTM, 10).area == 100
    assert found.clipped(box(50, 50, 60, 60), UTM, 10) is None


def test_the_bytes_that_a_hash_depends_on_are_those_of_a_file_with_one_layer(tmp_path):
    """Work that an earlier version began is recognised."""
    found = read_outline(write(tmp_path / "a.gpkg", LEFT, RIGHT))
    frame = geopandas.read_file(tmp_path / "a.gpkg")
    assert found.content == frame.crs.to_wkt().encode() + b"".join(frame.geometry.to_wkb())


def test_exclamation_marks_in_the_path(tmp_path):
    write(tmp_path / "a.gpkg", LEFT, RIGHT)
    write(tmp_path / "a.shp", LEFT, RIGHT)
    folder = tmp_path / "wow! such"
    folder.mkdir()
    for one in tmp_path.glob("a.*"):
        one.rename(folder / f"[a!]b{one.suffix}")
    for suffix in (".gpkg", ".shp"):
        found = read_outline(folder / f"[a!]b{suffix}")
        assert found.polygons.union_all().equals(shapely.union(LEFT, RIGHT))
        assert found.polygons.crs == UTM


@pytest.mark.parametrize(
    ("wkt", "sentence"),
    [
        ("TIN Z(((0 0 0,0 1 0,1 0 0,0 0 0)))", "holds geometries that cannot be read"),
        (
            "GEOMETRYCOLLECTION(CURVEPOLYGON(CIRCULARSTRING(0 0,1 1,2 0,1 -1,0 0)))",
            "holds curves inside a collection",
        ),
        ("MULTIPOLYGON EMPTY", "holds no polygon"),
        (
            "CURVEPOLYGON(CIRCULARSTRING(0 0,1 1,2 0,1 -1,0 0))",
            r"with a CRS .* bounds are \(0.0, -0.999",
        ),
    ],
)
def test_geometries_that_cannot_be_taken(tmp_path, wkt, sentence):
    path = tmp_path / "a.csv"
    path.write_text(f'n,WKT\n1,"{wkt}"\n')
    with pytest.raises(InputError, match=sentence):
        read_outline(path)


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_coordinates_without_their_crs(tmp_path):
    metres = box(501_000, 8_898_000, 502_000, 8_899_000)
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(shapely.geometry.mapping(metres)))
    with pytest.raises(
        InputError,
        match=r"a\.geojson: coordinates such as \(50\d000\.0, 889\d000\.0\) are no degrees, and "
        r"its CRS is EPSG:4326 .* \(501000\.0, 8898000\.0, 502000\.0, 8899000\.0\)",
    ):
        read_outline(path)
    bare = write(tmp_path / "bare.shp", metres, crs=None)
    with pytest.raises(InputError, match=r"no geometries with a CRS .*\(501000\.0, 8898000\.0, "):
        read_outline(bare)
    world = write(tmp_path / "w.geojson", box(-180, -90, 180, 90), crs="EPSG:4326")
    assert len(read_outline(world).polygons) == 1


@pytest.mark.parametrize(
    ("shape", "crs", "reading"),
    [
        (box(-10, -63.1, -9, -62.9), "EPSG:4326", "with x and y swapped it would"),
        (box(296.9, -10, 297.1, -9), "EPSG:4326", "with 360 degrees less it would"),
        (box(-63.1, -10, -62.9, -9), UTM, "taken as longitude and latitude, EPSG:4326, it would"),
        (box(-10, -63.1, -9, -62.9), UTM, "taken as latitude and longitude, EPSG:4326, it would"),
        (box(501e3, 8898e3, 502e3, 8899e3), "EPSG:3857", "taken as EPSG:32720 it would"),
        (box(8898e3, 501e3, 8899e3, 502e3), "EPSG:5880", "taken as EPSG:32720 with x and y"),
        (box(10, 50, 11, 51), "EPSG:4326", None),
    ],
)  # fmt: skip
def test_what_polygons_beside_could_mean(shape, crs, reading):
    series = geopandas.GeoSeries([shape], crs=crs)
    scene = box(500e3, 8897e3, 503e3, 8900e3)
    told = where_they_are(series, [(box(0, 9e6, 1e5, 9.1e6), "EPSG:32622"), (scene, UTM)], "it")
    assert told.startswith(f"its bounds are ({shape.bounds[0]}, ")
    assert f" in {crs}" in told
    assert (reading in told) if reading else told.endswith("EPSG:4326")


def test_layers_without_geometries(tmp_path):
    (tmp_path / "a.csv").write_text("n\n1\n")
    with pytest.raises(InputError, match="no geometries with a CRS"):
        read_outline(tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"no such file \(--zones\)"), open_vectors("x", "--zones"):
        pass
