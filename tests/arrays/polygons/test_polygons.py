from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from unittest import mock

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from affine import Affine
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize, shapes
from scipy import ndimage

from geoforest.arrays.area import PixelTable
from geoforest.arrays.georef import GeoRef
from geoforest.arrays.polygons import patches
from geoforest.arrays.polygons import product_grid as parts
from geoforest.arrays.polygons.polygons import Polygons, PolygonStream, polygons_of_mask
from geoforest.errors import InputError

CRS = "EPSG:32720"
# Lines of the product grid run through column 7 and row 9, an eighth of a pixel off the corner.
TRANSFORM = Affine(10, 0, 30 * 10_240 - 68.75, 0, -10, 800 * 10_240 + 91.25)
ATTRIBUTES = {
    "scene_id": "S2A_x",
    "acquired": datetime(2024, 7, 1, 14, 30, tzinfo=UTC),
    "model": "starter",
    "threshold": 0.5,
}
COLUMNS = ["patch_id", "area_ha", "patch_area_ha", "perimeter_m", "n_pixels", "mean_probability"]

SHAPES = {
    "one pixel": "#",
    "one other pixel": ".",
    "one unseen pixel": "?",
    "row": "##.#?#..###",
    "diagonals": """
        #..#
        .##.
        .##.
        #..#""",
    "checkerboard": """
        #.#.#.
        .#.#.#
        #.#.#.
        .#.#.#""",
    "holes that touch at a corner": """
        #####
        #.###
        ##.##
        ###.#
        #####""",
    "hole that touches the outside at a corner": """
        .####
        #.###
        #####
        #####""",
    "pinched outline": """
        ###..
        #.#..
        ##.##
        ..#.#
        ..###""",
    "rings in rings": """
        #########
        #.......#
        #.#####.#
        #.#...#.#
        #.#.#.#.#
        #.#...#.#
        #.#####.#
        #.......#
        #########""",
    "spiral": """
        #########
        ........#
        #######.#
        #.....#.#
        #.###.#.#
        #.#...#.#
        #.#####.#
        #.......#
        #########""",
    "unseen hole and unseen island": """
        ###########
        #.#?#...###
        #.###.?.###
        #####...###
        ###########""",
    "unseen beside a hole, in its bounding box": """
        #######
        #.###.#
        #.#?#.#
        #.###.#
        #.....#
        #######""",
    "unseen inside an island": """
        #######
        #.....#
        #.###.#
        #.#?#.#
        #.###.#
        #.....#
        #######""",
}


def drawn(text: str) -> np.ndarray:
    codes = {".": 0, "#": 1, "?": 255}
    return np.array([[codes[c] for c in line] for line in text.split()], np.uint8)


# The oracle: the rules pixel by pixel, slow, obvious, and sharing nothing with the package.

Pixel = tuple[int, int]


@dataclass
class Cleaned:
    """Pixels of each kept patch after filling, by patch_id, and the counts."""

    patches: dict[int, set[Pixel]]
    dropped_px: int
    filled_px: int


EDGES = ((-1, 0), (1, 0), (0, -1), (0, 1))
CORNERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))


def components(pixels: set[Pixel], *, corners_touch: bool = False) -> list[set[Pixel]]:
    """4- or 8-connected components, by flood fill."""
    steps = EDGES + CORNERS if corners_touch else EDGES
    left, found = set(pixels), []
    while left:
        todo = [left.pop()]
        one = set(todo)
        while todo:
            row, col = todo.pop()
            for down, right in steps:
                near = row + down, col + right
                if near in left:
                    left.remove(near)
                    one.add(near)
                    todo.append(near)
        found.append(one)
    return found


def clean(mask: np.ndarray, mmu_px: int, *, corners_touch: bool = False) -> Cleaned:
    """Drop patches, then fill holes, below the minimum mapping unit; holes are 4-connected."""
    rows, cols = mask.shape
    # A frame of one pixel around the scene is what lies outside.
    plane = {(row, col) for row in range(-1, rows + 1) for col in range(-1, cols + 1)}
    forest = {(int(row), int(col)) for row, col in np.argwhere(mask == 1)}
    result = Cleaned({}, 0, 0)
    for patch in components(forest, corners_touch=corners_touch):
        if len(patch) < mmu_px:
            result.dropped_px += len(patch)
            continue
        row, col = min(patch)
        filled = set(patch)
        for hole in components(plane - patch):
            unobserved = (-1, -1) not in hole and any(mask[pixel] == 255 for pixel in hole)
            if (-1, -1) not in hole and len(hole) < mmu_px and not unobserved:
                filled |= hole
        # Dropped islands in a filled hole are forest of the mask that comes back as filled.
        result.filled_px += len(filled) - len(patch)
        result.patches[row * cols + col] = filled
    return result


def vertices(pixels: set[Pixel]) -> int:
    """Corners of the outline: of the four pixels at a grid point, an odd number, or two across."""
    counts: dict[Pixel, list[Pixel]] = defaultdict(list)
    for row, col in pixels:
        for down in (0, 1):
            for right in (0, 1):
                counts[row + down, col + right].append((down, right))
    total = 0
    for around in counts.values():
        if len(around) in (1, 3):
            total += 1
        elif len(around) == 2 and all(a != b for a, b in zip(*around, strict=True)):
            total += 2
    return total


def split(pixels: set[Pixel], cell_of: dict[Pixel, Pixel]) -> list[set[Pixel]]:
    """Connected pieces within single cells, by first pixel."""
    cells: dict[Pixel, set[Pixel]] = defaultdict(set)
    for pixel in pixels:
        cells[cell_of[pixel]].add(pixel)
    return sorted((part for cell in cells.values() for part in components(cell)), key=min)


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    """Noise at several densities and grains; sometimes a checkerboard beneath."""
    rows, cols = draw(st.integers(1, 22)), draw(st.integers(1, 22))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    grain = draw(st.sampled_from([1, 1, 2, 3]))
    coarse = rng.random((rows // grain + 1, cols // grain + 1)) < draw(st.floats(0.2, 0.9))
    mask = np.kron(coarse, np.ones((grain, grain)))[:rows, :cols].astype(np.uint8)
    if draw(st.booleans()):
        flip = rng.random(mask.shape) < draw(st.floats(0, 0.2))
        mask = np.where(flip, 1 - mask, mask).astype(np.uint8)
    if draw(st.integers(0, 5)) == 0:
        board = (np.indices(mask.shape).sum(axis=0) % 2).astype(np.uint8)
        mask = np.where(rng.random(mask.shape) < 0.9, board, mask).astype(np.uint8)
    mask[rng.random(mask.shape) < draw(st.sampled_from([0, 0.01, 0.05, 0.3]))] = 255
    return mask


def hectares(mask: np.ndarray, mmu_px: int, transform: Affine = TRANSFORM, crs: str = CRS) -> float:
    """A minimum mapping unit that comes to so many pixels."""
    pixel = PixelTable.build(GeoRef(mask.shape, transform, crs)).pixel_area_m2()
    return max(mmu_px - 0.5, 0) * pixel / 1e4


def run(mask: np.ndarray, mmu_px: int = 0, max_vertices: int = 0, **options: object) -> Polygons:
    return polygons_of_mask(
        mask,
        transform=TRANSFORM,
        crs=CRS,
        min_area_ha=hectares(mask, mmu_px),
        max_vertices=max_vertices,
        **options,
    )


def pixels_of(geometry: shapely.Polygon, shape: tuple[int, int]) -> set[Pixel]:
    burnt = rasterize([geometry], out_shape=shape, transform=TRANSFORM, dtype=np.uint8)
    return {(int(row), int(col)) for row, col in np.argwhere(burnt)}


def cells(shape: tuple[int, int], cut_px: int) -> dict[Pixel, Pixel]:
    """Cell of the product grid of each pixel, from its left and lower edge in centimetres."""
    left, top, size = round(TRANSFORM.c * 100), round(TRANSFORM.f * 100), 1000
    return {
        (row, col): (
            (top - (row + 1) * size) // (cut_px * size),
            (left + col * size) // (cut_px * size),
        )
        for row in range(shape[0])
        for col in range(shape[1])
    }


def cut_lines(shape: tuple[int, int], cut_px: int) -> tuple[list[int], list[int]]:
    """Columns and rows at which another cell begins."""
    cell_of = cells(shape, cut_px)
    cols = [col for col in range(1, shape[1]) if cell_of[0, col] != cell_of[0, col - 1]]
    rows = [row for row in range(1, shape[0]) if cell_of[row, 0] != cell_of[row - 1, 0]]
    return cols, rows


def check_geometry(
    geometry: shapely.Polygon, n_pixels: int, shape: tuple[int, int], cut_px: int | None
) -> None:
    assert geometry.geom_type == "Polygon"
    assert shapely.is_valid(geometry), shapely.is_valid_reason(geometry)
    assert geometry.area == pytest.approx(n_pixels * 100)
    assert geometry.exterior.is_ccw
    assert not any(ring.is_ccw for ring in geometry.interiors)
    for ring in (geometry.exterior, *geometry.interiors):
        points = np.array(ring.coords)
        corners = np.rint((points - (TRANSFORM.c, TRANSFORM.f)) / (10, -10))
        exact = corners * (TRANSFORM.a, TRANSFORM.e) + (TRANSFORM.c, TRANSFORM.f)
        assert np.array_equal(points, exact)
        steps = np.diff(corners, axis=0)
        along_x, along_y = steps[:, 0] != 0, steps[:, 1] != 0
        # Each edge has one direction: no repeated point. The next one has the other, unless the
        # point lies on a cut line, where another part of the patch ends.
        assert (along_x ^ along_y).all()
        straight = corners[:-1][along_x == np.roll(along_x, 1)]
        if cut_px is None:
            assert not len(straight)
        else:
            cut_cols, cut_rows = cut_lines(shape, cut_px)
            assert (np.isin(straight[:, 0], cut_cols) | np.isin(straight[:, 1], cut_rows)).all()


def in_strips(rows: int, cols: int) -> mock._patch[int]:
    """Strips of so many rows, of a mask of so many columns."""
    return mock.patch.object(patches, "_STRIP_PX", rows * cols)


def check(
    mask: np.ndarray, mmu_px: int, max_vertices: int, cut_px: int, strip_rows: int = 1000
) -> None:
    with mock.patch.object(parts, "CUT_PX", cut_px), in_strips(strip_rows, mask.shape[1]):
        result = run(mask, mmu_px, max_vertices)
    expected = clean(mask, mmu_px)
    cell_of = cells(mask.shape, cut_px)
    features = []
    for patch_id, patch in expected.patches.items():
        giant = max_vertices and vertices(patch) > max_vertices
        pieces = split(patch, cell_of) if giant else [patch]
        features += [(patch_id, piece) for piece in pieces]
    # By the last row, then by the first pixel.
    features.sort(key=lambda feature: (max(feature[1])[0], min(feature[1])))
    frame = result.frame
    assert frame["patch_id"].tolist() == [patch_id for patch_id, _ in features]
    for geometry, (_, piece) in zip(frame.geometry, features, strict=True):
        assert pixels_of(geometry, mask.shape) == piece
        check_geometry(geometry, len(piece), mask.shape, cut_px if max_vertices else None)
    assert shapely.coverage_is_valid(frame.geometry.to_numpy())
    assert frame["n_pixels"].tolist() == [len(piece) for _, piece in features]
    assert asdict(result.counts) == {
        "mask_px": int((mask == 1).sum()),
        "dropped_px": expected.dropped_px,
        "filled_px": expected.filled_px,
        "polygon_px": sum(len(patch) for patch in expected.patches.values()),
        "patches": len(expected.patches),
        "parts": len(features),
    }
    counts = result.counts
    assert counts.polygon_px == counts.mask_px - counts.dropped_px + counts.filled_px


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("mmu_px", [0, 2, 12, 60])
@pytest.mark.parametrize("max_vertices", [0, 4])
@pytest.mark.parametrize("strip_rows", [1, 2, 1000])
def test_drawn_masks_agree_with_the_oracle(name, mmu_px, max_vertices, strip_rows):
    check(drawn(SHAPES[name]), mmu_px, max_vertices, cut_px=1024, strip_rows=strip_rows)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(
    masks(),
    st.integers(0, 30),
    st.sampled_from([0, 4, 12, 40]),
    st.sampled_from([3, 5, 1024]),
    st.integers(1, 12),
)
@example(np.ones((1, 1), np.uint8), 1, 4, 1024, 1)
@example(np.ones((1, 20), np.uint8), 1, 3, 5, 1)
@example(np.ones((20, 1), np.uint8), 1, 3, 5, 1)
def test_random_masks_agree_with_the_oracle(mask, mmu_px, max_vertices, cut_px, strip_rows):
    check(mask, mmu_px, max_vertices, cut_px, strip_rows)


@settings(max_examples=150, deadline=None)
@given(masks(), st.integers(0, 30), st.integers(1, 22))
def test_patches_that_touch_at_corners_are_cleaned_as_one(mask, mmu_px, strip_rows):
    expected = clean(mask, mmu_px, corners_touch=True)
    with in_strips(strip_rows, mask.shape[1]):
        found = run(mask, mmu_px, corners_touch=True)
    by_patch = found.frame.groupby("patch_id")["geometry"].agg(list)
    patches = {
        number: set().union(*(pixels_of(polygon, mask.shape) for polygon in polygons))
        for number, polygons in by_patch.items()
    }
    assert patches == expected.patches
    assert found.counts.dropped_px == expected.dropped_px
    assert found.counts.filled_px == expected.filled_px


@settings(max_examples=100, deadline=None)
@given(masks(), st.integers(0, 30), st.sampled_from([0, 12, 40]), st.integers(1, 22), st.booleans())
def test_nothing_depends_on_strips(mask, mmu_px, max_vertices, strip_rows, corners_touch):
    probability = np.where(mask == 255, 255, mask.astype(int) * 100 + np.indices(mask.shape)[1])
    options = {"probability": probability.astype(np.uint8), "corners_touch": corners_touch}
    with mock.patch.object(parts, "CUT_PX", 7):
        whole = run(mask, mmu_px, max_vertices, **options)
        with in_strips(strip_rows, mask.shape[1]):
            cut = run(mask, mmu_px, max_vertices, **options)
    assert whole.counts == cut.counts
    # To the last bit.
    pd.testing.assert_frame_equal(
        pd.DataFrame(whole.frame.drop(columns="geometry")),
        pd.DataFrame(cut.frame.drop(columns="geometry")),
        check_exact=True,
    )
    assert whole.frame.to_wkb().equals(cut.frame.to_wkb())


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    masks(),
    st.sampled_from([0, 4, 12]),
    st.sampled_from([0.5, 1, 2.5, 10]),
    st.integers(1, 12),
    st.booleans(),
)
def test_simplified_outlines_fit_together(mask, max_vertices, simplify_px, strip_rows, touch):
    options = {"corners_touch": touch}
    with mock.patch.object(parts, "CUT_PX", 5):
        exact = run(mask, 0, max_vertices, **options).frame
        options["simplify_px"] = simplify_px
        whole = run(mask, 0, max_vertices, **options).frame
        with in_strips(strip_rows, mask.shape[1]):
            cut = run(mask, 0, max_vertices, **options).frame
    before, after = exact.geometry.to_numpy(), whole.geometry.to_numpy()
    assert shapely.is_valid(after).all()
    assert shapely.coverage_is_valid(after)
    assert shapely.is_ccw(shapely.get_exterior_ring(after)).all()
    holes = [shapely.get_num_interior_rings(some).tolist() for some in (before, after)]
    assert holes[0] == holes[1]
    numbers = [pd.DataFrame(some.drop(columns="geometry")) for some in (exact, whole)]
    pd.testing.assert_frame_equal(*numbers, check_exact=True)
    assert whole.to_wkb().equals(cut.to_wkb())
    # Parts of a patch meet along the same straight lines.
    one, other = shapely.STRtree(before).query(before, predicate="touches")
    borders = [shapely.intersection(some[one], some[other]) for some in (before, after)]
    assert np.allclose(shapely.length(borders[0]), shapely.length(borders[1]))


def test_simplified_stairs_become_a_slope():
    stairs = np.tri(60, dtype=np.uint8)
    exact, smooth = (run(stairs, simplify_px=px).frame.geometry[0] for px in (0, 2))
    assert shapely.get_num_coordinates(exact) > 120
    assert shapely.get_num_coordinates(smooth) < 10
    # No farther from the edges of the pixels than the tolerance, on either side.
    assert shapely.hausdorff_distance(exact, smooth) <= 20
    assert smooth.area == pytest.approx(exact.area, rel=0.03)


def test_the_worked_example_of_holes():
    """Four holes of one patch: one filled, one with unseen inside, one unseen, one too big."""
    mask = drawn(SHAPES["unseen hole and unseen island"])
    result = run(mask, mmu_px=5)
    assert result.counts.filled_px == 2
    assert len(result.frame.geometry[0].interiors) == 2
    island = drawn(SHAPES["unseen inside an island"])
    island = np.pad(island, 1, constant_values=1)
    assert run(island, mmu_px=26).counts.filled_px == 0
    island[island == 255] = 0
    counts = run(island, mmu_px=26).counts
    # The island of 8 is dropped first; then it comes back within the hole of 25.
    assert (counts.mask_px, counts.dropped_px, counts.filled_px) == (64, 8, 25)
    assert counts.polygon_px == 81


def test_parts_are_cut_at_the_first_pixel_edge_at_or_after_a_multiple():
    result = run(np.ones((12, 12), np.uint8), max_vertices=3)
    assert result.counts.patches == 1
    assert result.counts.parts == 4
    bounds = result.frame.bounds
    # 30 * 10240 lies 68.75 m east of the scene's edge: the first edge at or after it is 70 m.
    assert bounds["minx"].tolist() == [TRANSFORM.c, TRANSFORM.c + 70] * 2
    # 800 * 10240 lies 91.25 m south of the upper edge: the first edge at or above it is 90 m.
    assert bounds["miny"].tolist() == [TRANSFORM.f - 90] * 2 + [TRANSFORM.f - 120] * 2
    assert result.frame["n_pixels"].tolist() == [63, 45, 21, 15]
    assert result.frame["patch_id"].tolist() == [0] * 4


def test_cut_lines_stay_in_place_when_the_scene_moves():
    cols = parts.cut_cols(2300, TRANSFORM)
    rows = parts.cut_rows(2100, TRANSFORM)
    assert (rows.tolist(), cols.tolist()) == ([9, 1033, 2057], [7, 1031, 2055])
    origin = TRANSFORM @ Affine.translation(999, 137)
    assert (parts.cut_cols(2300 - 999, origin) + 999).tolist() == [1031, 2055]
    assert (parts.cut_rows(2100 - 137, origin) + 137).tolist() == [1033, 2057]


@pytest.mark.parametrize("offset", [0.0, 1e-11, -1e-11])
def test_rounding_moves_no_cut_line(offset):
    left, top = 0.1024 * 5 - 0.0010 + offset, 0.1024 * 7 + 0.0020 + offset
    transform = Affine(0.0001, 0, left, 0, -0.0001, top)
    assert parts.cut_cols(30, transform).tolist() == [10]
    assert parts.cut_rows(30, transform).tolist() == [20]


def test_areas_add_up_over_parts_patches_and_pixels():
    rng = np.random.default_rng(3)
    mask = (rng.random((40, 50)) < 0.7).astype(np.uint8)
    frame = run(mask, 0, 12).frame
    pixel_ha = (
        PixelTable.build(GeoRef(mask.shape, TRANSFORM, CRS)).area_m2(slice(0, 40), slice(0, 50))
        / 1e4
    )
    for geometry, area in zip(frame.geometry, frame["area_ha"], strict=True):
        own = sum(pixel_ha[pixel] for pixel in pixels_of(geometry, mask.shape))
        assert area == pytest.approx(own, rel=2e-8)
    assert frame["area_ha"].sum() == pytest.approx(pixel_ha[mask == 1].sum(), rel=2e-8)
    whole = frame.groupby("patch_id")["area_ha"].transform("sum")
    assert np.allclose(frame["patch_area_ha"], whole, rtol=1e-12)
    assert (frame["patch_area_ha"] > frame["area_ha"]).any()


def test_the_perimeter_counts_all_rings_on_the_ground():
    mask = drawn(SHAPES["unseen hole and unseen island"])
    frame = run(mask).frame
    table = PixelTable.build(GeoRef(mask.shape, TRANSFORM, CRS))
    widths, heights = table.width.mean(), table.height.mean()
    # Across: outline 2 x 11, holes 2, 2, 6; down: outline 2 x 5, holes 4, 2, 6.
    assert frame["perimeter_m"][0] == pytest.approx(32 * widths + 22 * heights, rel=1e-6)
    assert frame["perimeter_m"][0] != pytest.approx(540, rel=1e-5)


def test_mean_probability_is_over_the_pixels_of_the_feature():
    mask = drawn("""
        ##..##
        #.#.##
        ###...""")
    probability = np.where(mask == 1, 200, 50).astype(np.uint8)
    probability[0, 4] = 250
    kept = run(mask, probability=probability).frame["mean_probability"]
    # The patch to the right ends first.
    assert kept.tolist() == pytest.approx([0.85, 0.8], abs=1e-12)
    filled = run(mask, 2, probability=probability).frame["mean_probability"]
    assert filled.tolist() == pytest.approx([0.85, (7 * 0.8 + 0.2) / 8], abs=1e-12)
    assert run(mask).frame["mean_probability"].isna().all()


@pytest.mark.parametrize("attributes", [None, ATTRIBUTES, {**ATTRIBUTES, "acquired": None}])
def test_no_forest_gives_an_empty_frame_of_the_same_kind(attributes):
    full = run(np.ones((4, 5), np.uint8), attributes=attributes).frame
    for mask in (np.zeros((4, 5), np.uint8), np.full((4, 5), 255, np.uint8)):
        empty = run(mask, 0, 4, attributes=attributes)
        assert empty.frame.empty
        assert isinstance(empty.frame, geopandas.GeoDataFrame)
        assert empty.frame.dtypes.to_dict() == full.dtypes.to_dict()
        assert list(empty.frame.columns) == list(full.columns)
        assert empty.frame.crs == full.crs == CRS
        assert set(asdict(empty.counts).values()) == {0}


def test_columns_are_in_order_and_typed():
    frame = run(np.ones((2, 2), np.uint8), attributes=ATTRIBUTES).frame
    assert list(frame.columns) == [*COLUMNS, *ATTRIBUTES, "geometry"]
    assert [str(kind) for kind in frame.dtypes[:6]] == [
        "int64",
        *["float64"] * 3,
        "int64",
        "float64",
    ]
    assert frame["acquired"].dtype == "datetime64[ms, UTC]"
    assert frame["acquired"][0] == ATTRIBUTES["acquired"]
    assert frame.iloc[0][["scene_id", "model", "threshold"]].tolist() == ["S2A_x", "starter", 0.5]


def test_degrees_give_exact_corners_and_true_hectares():
    transform = Affine(0.0000898315, 0, -60.12345678, 0, -0.0000898315, 60.00012345)
    mask = drawn("""
        ####.
        #..#.
        ####.""")
    frame = polygons_of_mask(mask, transform=transform, crs="EPSG:4326", min_area_ha=0).frame
    corners = {tuple(transform @ (col, row)) for row in range(4) for col in range(6)}
    assert set(map(tuple, shapely.get_coordinates(frame.geometry[0]))) <= corners
    assert frame["area_ha"][0] == pytest.approx(10 * 100 * 0.5 / 1e4, rel=0.01)


def test_the_argument_is_left_as_it_is():
    mask = drawn(SHAPES["rings in rings"])
    before = mask.copy()
    mask.flags.writeable = False
    run(mask, 20, 4)
    assert np.array_equal(mask, before)


@pytest.mark.parametrize(
    ("mask", "probability", "wanted"),
    [
        (np.ones((2, 2), np.int32), None, "uint8"),
        (np.ones(4, np.uint8), None, "row, col"),
        (np.ones((0, 2), np.uint8), None, "filled"),
        (np.ones((2, 2), np.uint8), np.ones((2, 3), np.uint8), "as the mask"),
        (np.ones((2, 2), np.uint8), np.ones((2, 2)), "as the mask"),
        (np.ones((2, 2), np.uint8), np.full((2, 2), 255, np.uint8), "255 at row 0, column 0"),
    ],
)
def test_arrays_that_cannot_be_meant_are_refused(mask, probability, wanted):
    with pytest.raises(InputError, match=wanted):
        polygons_of_mask(mask, transform=TRANSFORM, crs=CRS, probability=probability)


class TestStreams:
    def stream(self) -> PolygonStream:
        return PolygonStream(GeoRef((6, 5), TRANSFORM, CRS), min_area_ha=0)

    def test_rows_that_do_not_fit(self):
        with self.stream() as stream:
            with pytest.raises(InputError, match="3 x 4 px from row 0 on; all columns of 6 x 5"):
                stream.add(np.ones((3, 4), np.uint8))
            stream.add(np.ones((4, 5), np.uint8))
            with pytest.raises(InputError, match="3 x 5 px from row 4 on"):
                stream.add(np.ones((3, 5), np.uint8))
            with pytest.raises(InputError, match="4 of 6 rows were given"):
                list(stream.frames())

    def test_probability_for_some_rows(self):
        values = np.ones((3, 5), np.uint8)
        for first, then in ((values, None), (None, values)):
            with self.stream() as stream:
                stream.add(values, first)
                with pytest.raises(InputError, match="given for some rows only"):
                    stream.add(values, then)

    def test_frames_taken_twice(self):
        with self.stream() as stream:
            stream.add(np.ones((6, 5), np.uint8))
            assert sum(map(len, stream.frames())) == 1
            with pytest.raises(InputError, match="taken once"):
                list(stream.frames())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_thousands_of_rings_agree_with_gdal(seed):
    """GDAL's polygons of the same mask: another tracer, the same outlines and holes."""
    random = np.random.default_rng(seed)
    mask = ndimage.zoom((random.random((75, 100)) < 0.6).astype(np.uint8), 4, order=0)
    mask ^= random.random(mask.shape) < 0.1
    with in_strips(37, mask.shape[1]):
        found = run(mask).frame
    expected = [
        shapely.geometry.shape(geometry)
        for geometry, _ in shapes(mask, mask=mask > 0, connectivity=4, transform=TRANSFORM)
    ]
    assert len(expected) > 500
    assert sum(len(polygon.interiors) for polygon in expected) > 1000
    assert found.is_valid.all()
    wanted = {polygon.normalize().wkb for polygon in expected}
    assert {polygon.normalize().wkb for polygon in found.geometry} == wanted
    assert len(found) == len(expected)
