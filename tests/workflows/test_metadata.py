"""Pictures made small keep what they show."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from workflows.metadata import shrunk


def png(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, format="png")
    return stream.getvalue()


def test_a_large_picture_is_made_small_and_a_small_one_is_left():
    values = np.zeros((200, 400, 3), np.uint8)
    values[:, :200] = 27, 120, 55
    # A colour that few pixels have is not lost.
    values[:40, 380:] = 255, 0, 0
    small = shrunk(png(values), 100)
    with Image.open(io.BytesIO(small)) as image:
        seen = np.asarray(image.convert("RGB")).astype(int)
    assert seen.shape == (50, 100, 3)
    assert np.abs(seen[30, 20] - (27, 120, 55)).max() < 12
    assert np.abs(seen[3, 97] - (255, 0, 0)).max() < 12
    assert shrunk(small, 100) == small
