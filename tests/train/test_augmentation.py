"""What each augmentation does to a chip, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geoforest.train.chips import Chip, ChipDataset

SIDE = 32


def _dataset(augmentation: str, n_chips: int = 1) -> ChipDataset:
    """Chips whose pixels are numbered: 10,000 x chip + row-major position; mask is its parity."""
    position = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) + 1
    chips = [
        Chip(str(n), (position + 10_000 * n)[None].astype("int32"), (position % 2).astype("uint8"))
        for n in range(n_chips)
    ]
    return ChipDataset(chips, mean=np.zeros(1), std=np.ones(1), augmentation=augmentation)


def _seen(dataset: ChipDataset, n: int = 100) -> list[np.ndarray]:
    torch.manual_seed(1)
    return [dataset[0][0][0].numpy() for _ in range(n)]


def test_d4_gives_all_eight_orientations_and_no_others():
    position = np.arange(SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE) + 1
    turns = [np.rot90(position, k) for k in range(4)]
    wanted = {a.tobytes() for turned in turns for a in (turned, turned[:, ::-1])}
    assert {a.tobytes() for a in _seen(_dataset("d4"))} == wanted


def test_none_leaves_a_chip_as_it_is():
    assert len({a.tobytes() for a in _seen(_dataset("none"), 5)}) == 1


def test_a_transpose_keeps_the_side_of_a_corner():
    for image in _seen(_dataset("transpose")):
        # Whatever the brightness, the upper left corner has the lowest number.
        assert image.argmin() == 0


@pytest.mark.parametrize("augmentation", ["strong", "transpose"])
def test_pasted_rectangles_bring_their_labels(augmentation):
    dataset = _dataset(augmentation, n_chips=2)
    # Without changes of brightness the numbers can be read back.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geoforest.train.chips._gain", lambda image: image)
        torch.manual_seed(0)
        samples = [dataset[0] for _ in range(30)]
    mixed = 0
    for image, mask in samples:
        numbers = image[0].numpy().astype(int)
        assert (mask.numpy() == numbers % 10_000 % 2).all()
        foreign = numbers > 10_000
        mixed += foreign.any()
        assert foreign.mean() <= 0.75**2
        if foreign.any():
            rows, cols = np.nonzero(foreign)
            assert foreign[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1].all()
    assert 0 < mixed < 30
    # The chips themselves are untouched.
    assert dataset._chips[0].dn.max() == SIDE * SIDE
    assert dataset._chips[0].mask[0, 0] == 1
