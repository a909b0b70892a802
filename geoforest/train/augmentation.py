"""Normalised and augmented chips, and their order in training.

Every random choice depends on the seed, the epoch and the chip's number alone: not on the number
of loader processes, and not on whether a training was interrupted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from geoforest.types import NO_OBSERVATION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from geoforest.train.chips import Chip
    from geoforest.train.settings import Augmentation

_MIXING = ("strong", "transpose")

Sample = tuple[torch.Tensor, torch.Tensor]
"""Image, float32 ``(band, row, col)``, and mask, uint8 ``(row, col)``."""


class ChipDataset(Dataset[Sample]):
    """Normalised and augmented chips for a data loader.

    Parameters
    ----------
    chips
        Chips, kept in memory as stored.
    mean, std
        Of the training chips, in stored units, one value per band.
    augmentation
        ``none``; ``d4``: horizontal and vertical flips and quarter turns, all eight orientations
        equally often; ``strong``: also changes of brightness, rectangles of other chips (which
        must have the same shape), and swath edges beyond which nothing was observed;
        ``transpose``: as ``strong``, but turned about the main diagonal only. Flips and turns
        blur labels that all lie a fraction of a pixel off their images to the same side, because
        they turn the offset too; in a transpose it keeps its side. A chip that is not square
        keeps its shape: the four orientations without a quarter turn, and no transpose.
    seed
        Seed of all augmentation.

    Notes
    -----
    A key is ``(epoch, index)``, as :class:`EpochSampler` yields it, or an index alone for epoch 0.
    """

    def __init__(
        self,
        chips: Sequence[Chip],
        *,
        mean: NDArray[np.float64],
        std: NDArray[np.float64],
        augmentation: Augmentation = "none",
        seed: int = 0,
    ) -> None:
        self._chips = chips
        self._mean = torch.from_numpy(mean.astype(np.float32))[:, None, None]
        self._std = torch.from_numpy(std.astype(np.float32))[:, None, None]
        self._augmentation = augmentation
        self._seed = seed

    def __len__(self) -> int:
        return len(self._chips)

    def __getitem__(self, key: tuple[int, int] | int) -> Sample:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        rng = np.random.default_rng([self._seed, epoch, index])
        image, mask = self._oriented(index, rng)
        if self._augmentation in _MIXING:
            if rng.random() < 0.5:
                other = self._oriented(int(rng.integers(len(self._chips))), rng)
                image, mask = _paste_rectangle(image, mask, *other, rng)
            if rng.random() < 0.2:
                image, mask = _cut_swath(image, mask, rng)
        return image, mask

    def _oriented(self, index: int, rng: np.random.Generator) -> Sample:
        chip = self._chips[index]
        image, mask = torch.from_numpy(chip.dn.astype(np.float32)), torch.from_numpy(chip.mask)
        if self._augmentation in _MIXING:
            image = _vary_brightness(image, rng)
        # As in prediction: pixels without an observation become the training mean.
        image = torch.where(torch.from_numpy(chip.observed), image, self._mean)
        if self._augmentation == "transpose":
            image, mask = _transpose(image, mask, rng)
        elif self._augmentation != "none":
            image, mask = _rotate_and_flip(image, mask, rng)
        return (image - self._mean) / self._std, mask


class EpochSampler(Sampler[tuple[int, int]]):
    """Keys ``(epoch, index)`` of a data set, in a new order in each epoch.

    Examples
    --------
    >>> sampler = EpochSampler(3, seed=0)
    >>> sampler.set_epoch(5)
    >>> sorted(sampler) == [(5, 0), (5, 1), (5, 2)]
    True
    """

    def __init__(self, n_chips: int, *, seed: int, epoch: int = 0) -> None:
        self._n_chips, self._seed, self._epoch = n_chips, seed, epoch

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, and with it the order; Lightning calls this."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._n_chips

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rng = np.random.default_rng([self._seed, self._epoch])
        return ((self._epoch, index) for index in rng.permutation(self._n_chips).tolist())


def _rotate_and_flip(image: torch.Tensor, mask: torch.Tensor, rng: np.random.Generator) -> Sample:
    turns, flip = int(rng.integers(4)), rng.random() < 0.5
    if not _is_square(mask):
        turns -= turns % 2
    image, mask = image.rot90(turns, (-2, -1)), mask.rot90(turns, (-2, -1))
    return (image.flip(-1), mask.flip(-1)) if flip else (image, mask)


def _transpose(image: torch.Tensor, mask: torch.Tensor, rng: np.random.Generator) -> Sample:
    if rng.random() < 0.5 and _is_square(mask):
        return image.transpose(-2, -1), mask.transpose(-2, -1)
    return image, mask


def _is_square(mask: torch.Tensor) -> bool:
    return mask.shape[-2] == mask.shape[-1]


def _vary_brightness(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Vary the brightness of the chip and of each band, as haze, season and view angle do."""
    exponent = rng.normal(0, 0.10) + rng.normal(0, 0.06, (len(image), 1, 1))
    return image * torch.from_numpy(np.exp(exponent).astype(np.float32))


def _paste_rectangle(
    image: torch.Tensor,
    mask: torch.Tensor,
    other: torch.Tensor,
    other_mask: torch.Tensor,
    rng: np.random.Generator,
) -> Sample:
    """Replace a random rectangle by that of another chip (CutMix, Yun et al. 2019).

    Pixels keep their measured values; zooming would blur forest edges.
    """
    rows, cols = mask.shape
    height, width = (int(n * rng.uniform(0.25, 0.75)) for n in (rows, cols))
    top, left = int(rng.integers(rows - height + 1)), int(rng.integers(cols - width + 1))
    inside = torch.zeros(rows, cols, dtype=torch.bool)
    inside[top : top + height, left : left + width] = True
    return torch.where(inside, other, image), torch.where(inside, other_mask, mask)


def _cut_swath(image: torch.Tensor, mask: torch.Tensor, rng: np.random.Generator) -> Sample:
    """Mark one side of a random line as not observed, like the ground beyond a swath edge.

    Without it, encoders that pool a whole window (squeeze and excitation) would predict other
    probabilities for a window only because it holds an edge.
    """
    rows, cols = mask.shape
    angle = rng.uniform(0, 2 * np.pi)
    row, col = rng.uniform(0, rows), rng.uniform(0, cols)
    down, right = np.ogrid[:rows, :cols]
    beyond = torch.from_numpy((down - row) * np.cos(angle) + (right - col) * np.sin(angle) > 0)
    # The image is normalised: zero is the training mean.
    return image.masked_fill(beyond, 0.0), mask.masked_fill(beyond, NO_OBSERVATION)
