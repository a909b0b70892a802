"""Pictures decode, have their size, show something, and survive empty input."""

from __future__ import annotations

import io

import numpy as np
import pytest
import shapely
from PIL import Image

from geoforest.report.figures import quicklook
from geoforest.scenes.synthetic import make_scene

BOUNDS = (500_000.0, 8_900_000.0, 503_000.0, 8_902_560.0)


def draw(dn, truth, outlines, **options) -> np.ndarray:
    png = quicklook(
        dn * 1e-4,
        (dn > 0).all(axis=0),
        probability=np.where(truth == 255, 255, truth * 240).astype(np.uint8),
        mask=truth,
        outlines=outlines,
        bounds=BOUNDS,
        **options,
    )
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_four_panels(tmp_path):
    scene = make_scene(7, (256, 300))
    square = shapely.box(500_500, 8_900_500, 502_000, 8_902_000)
    outlines = [shapely.get_coordinates(square)]
    picture = draw(scene.dn, scene.truth, outlines, title="scene")
    assert picture.shape == (1560, 1560, 3)
    rows, cols = picture.shape[:2]
    for row in (0, rows // 2):
        for col in (0, cols // 2):
            panel = picture[row : row + rows // 2, col : col + cols // 2]
            assert len(np.unique(panel.reshape(-1, 3), axis=0)) > 20
    # Outlines of polygons are yellow, the forest of the mask is green.
    assert (np.abs(picture.astype(int) - (0xFF, 0xD9, 0x2F)).sum(axis=2) < 20).sum() > 500
    assert (np.abs(picture.astype(int) - (0x1B, 0x78, 0x37)).sum(axis=2) < 5).sum() > 10_000


@pytest.mark.parametrize("shape", [(1, 1), (1, 50)])
@pytest.mark.parametrize("seen", [True, False])
def test_odd_input(shape, seen):
    dn = np.full((4, *shape), 500 if seen else 0, np.uint16)
    truth = np.full(shape, 1 if seen else 255, np.uint8)
    assert draw(dn, truth, [], metres=False).shape == (1560, 1560, 3)
