"""What each augmentation does to a chip, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest

from geoforest.train import augmentation
from geoforest.train.augmentation import ChipDataset, EpochSampler
from geoforest.train.chips import Chip

SIDE = 32


def _dataset(kind: str, n_chips: int = 1, *, rows: int = SIDE) -> ChipDataset:
    """Chips whose pixels are numbered: 10,000 x chip + row-major position; mask is its parity."""
    position = np.arange(rows * SIDE).reshape(rows, SIDE) + 1
    everywhere = np.ones(position.shape, bool)
    chips = [
        Chip(
            str(n),
            (position + 10_000 * n)[None].astype("int32"),
            (position % 2).astype("uint8"),
            everywhere,
        )
        for n in range(n_chips)
    ]
    return ChipDataset(chips, mean=np.zeros(1), std=np.ones(1), augmentation=kind)


def _seen(dataset: ChipDataset, n: int = 100) -> list[np.ndarray]:
    return [dataset[epoch, 0][0][0].numpy() for epoch in range(n)]


def test_d4_gives_all_eight_orientations_and_no_others():
    position = np.arange(SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE) + 1
    turns = [np.rot90(position, k) for k in range(4)]
    wanted = {a.tobytes() for turned in turns for a in (turned, turned[:, ::-1])}
    assert {a.tobytes() for a in _seen(_dataset("d4"))} == wanted


def test_chips_that_are_not_square_keep_their_shape():
    position = np.arange(2 * SIDE * SIDE, dtype=np.float32).reshape(2 * SIDE, SIDE) + 1
    wanted = {a.tobytes() for a in (position, position[::-1], position[:, ::-1])}
    wanted.add(position[::-1, ::-1].tobytes())
    assert {a.tobytes() for a in _seen(_dataset("d4", rows=2 * SIDE))} == wanted
    for kind in ("d4", "strong", "transpose"):
        dataset = _dataset(kind, n_chips=2, rows=2 * SIDE)
        shapes = {(*image.shape, *mask.shape) for image, mask in (dataset[n, 0] for n in range(50))}
        assert shapes == {(1, 2 * SIDE, SIDE, 2 * SIDE, SIDE)}


def test_none_leaves_a_chip_as_it_is():
    assert len({a.tobytes() for a in _seen(_dataset("none"), 5)}) == 1


def test_a_transpose_keeps_the_side_of_a_corner(monkeypatch):
    monkeypatch.setattr(augmentation, "_cut_swath", lambda image, mask, rng: (image, mask))
    for image in _seen(_dataset("transpose")):
        # Whatever the brightness, the upper left corner has the lowest number.
        assert image.argmin() == 0


@pytest.mark.parametrize("kind", ["strong", "transpose"])
def test_pasted_rectangles_bring_their_labels(kind, monkeypatch):
    dataset = _dataset(kind, n_chips=2)
    # Without changes of brightness and swath edges the numbers can be read back.
    monkeypatch.setattr(augmentation, "_vary_brightness", lambda image, rng: image)
    monkeypatch.setattr(augmentation, "_cut_swath", lambda image, mask, rng: (image, mask))
    samples = [dataset[epoch, 0] for epoch in range(30)]
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


@pytest.mark.parametrize("kind", ["strong", "transpose"])
def test_beyond_a_swath_edge_nothing_was_observed(kind):
    dataset = _dataset(kind)
    cut = 0
    for epoch in range(60):
        image, mask = dataset[epoch, 0]
        unobserved = mask.numpy() == 255
        cut += unobserved.any()
        # The mean of these chips is 0 and their deviation 1; no pixel of theirs is 0.
        assert (image[0].numpy()[unobserved] == 0).all()
        assert (image[0].numpy()[~unobserved] > 0).all()
    assert 3 < cut < 30


def test_a_sample_follows_from_seed_epoch_and_number_alone():
    first, again = _dataset("strong", 4), _dataset("strong", 4)
    for _ in range(3):
        again[7, 1]
    assert all((a == b).all() for a, b in zip(first[2, 3], again[2, 3], strict=True))
    assert not (first[2, 3][0] == first[3, 3][0]).all()


def test_an_epoch_has_every_chip_once_in_an_order_of_its_own():
    sampler = EpochSampler(50, seed=1)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert {key[0] for key in keys} == {epoch}
        assert sorted(index for _, index in keys) == list(range(50))
        orders.append([index for _, index in keys])
    assert orders[0] == orders[2] != orders[1]
