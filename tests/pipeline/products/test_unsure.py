"""The places where a model is least certain, and their pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from geoforest.arrays.grid import Window
from geoforest.pipeline.products.insets import draw_insets
from geoforest.pipeline.products.unsure import UnsureCells, is_unsure
from geoforest.report.picture import OUTLINE, outline_mask
from geoforest.report.quicklook import decimated
from geoforest.scenes.open import open_scene
from tests.helpers import synthetic


def test_unsure_is_near_the_threshold_and_observed():
    stored = np.array([[0, 99, 100, 125, 150, 151, 250, 255]], np.uint8)
    assert is_unsure(stored, 0.5).tolist() == [
        [False, False, True, True, True, False, False, False]
    ]
    # Near the upper end no unobserved pixel counts.
    assert is_unsure(np.array([[255, 250]], np.uint8), 1.0).tolist() == [[False, True]]


@pytest.mark.parametrize("side", [50, 64, 640])
def test_places_have_most_unsure_pixels_whatever_the_blocks(side):
    stored = np.full((640, 700), 250, np.uint8)
    stored[100:120, 500:520] = 125
    stored[400:410, 30:40] = 125
    cells = UnsureCells(stored.shape, 0.5)
    for row in range(0, 640, side):
        for col in range(0, 700, side):
            block = stored[row : row + side, col : col + side]
            cells.add(Window(row, col, *block.shape), block)
    places = cells.places()
    assert [place.shape for place in places] == [(192, 192)] * len(places)
    first, second = places[:2]
    assert first.row_off <= 100 < 120 <= first.row_off + 192
    assert first.col_off <= 500 < 520 <= first.col_off + 192
    assert (second.row_off <= 400, second.col_off) == (True, 0)


def test_a_certain_map_and_a_tiny_one():
    cells = UnsureCells((30, 20), 0.5)
    cells.add(Window(0, 0, 30, 20), np.zeros((30, 20), np.uint8))
    assert cells.places() == []
    cells.add(Window(0, 0, 30, 20), np.full((30, 20), 120, np.uint8))
    assert cells.places() == [Window(0, 0, 30, 20)]


def test_insets_show_their_pixels(tmp_path):
    path = synthetic.write_raster(tmp_path / "s.tif", synthetic.digital_numbers((300, 300)))
    scene = open_scene(path, wanted=synthetic.BANDS)
    stored = np.zeros((1, 300, 300), np.uint8)
    stored[0, 150:] = 120
    mask = (stored >= 120).astype(np.uint8)
    rasters = {
        name: synthetic.write_raster(tmp_path / f"{name}.tif", values, descriptions=None)
        for name, values in (("probability", stored), ("mask", mask))
    }
    (inset,) = draw_insets(
        scene, [Window(100, 50, 192, 192)], threshold=0.48, seen=decimated(scene), **rasters
    )
    assert inset.unsure_percent == pytest.approx(100 * 142 / 192)
    assert inset.metres == pytest.approx(1920, rel=2e-3)
    assert (inset.lon, inset.lat) == pytest.approx((-62.9867, -9.9688), abs=1e-3)
    shown = np.asarray(Image.open(io.BytesIO(inset.probability)).convert("RGB"))
    assert shown.shape == (192, 192, 3)
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) == 2
    picture = np.asarray(Image.open(io.BytesIO(inset.scene)).convert("RGB")).astype(int)
    assert picture.shape == (576, 576, 3)
    yellow = np.abs(picture - OUTLINE).sum(axis=-1) < 150
    assert yellow[149:152].any(axis=0).mean() > 0.9
    assert yellow[:140].mean() < 0.3


def test_an_outline_is_one_pixel_wide():
    mask = np.zeros((5, 6), np.uint8)
    mask[2:4, 2:4] = 1
    mask[0, 5] = 255
    assert outline_mask(mask).astype(int).tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 1, 0],
        [0, 0, 1, 0, 1, 0],
        [0, 0, 1, 1, 0, 0],
    ]
