"""Labelled chips: pairs of image and mask, checked, normalised, augmented."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from torch.utils.data import Dataset

from geoforest.errors import DataError
from geoforest.reflectance import BandStatistics, observed
from geoforest.types import FOREST, NO_OBSERVATION, OTHER, Array, Mask, Valid

Augmentation = Literal["none", "d4", "strong", "transpose"]
_MIXING = ("strong", "transpose")
_CODES = (OTHER, FOREST, NO_OBSERVATION)
_SUFFIXES = {".tif", ".tiff"}


@dataclass(frozen=True, eq=False)
class Chip:
    """One labelled training sample.

    Attributes
    ----------
    name
        Of its files.
    dn
        ``(band, row, col)``, as stored.
    mask
        uint8 ``(row, col)``: 0 other, 1 forest, 255 not labelled or not observed.
    """

    name: str
    dn: Array
    mask: Mask

    @property
    def valid(self) -> Valid:
        """Pixels with a label."""
        return self.mask != NO_OBSERVATION


def read_split(data: str | Path, split: str, *, n_bands: int) -> list[Chip]:
    """Read all chips of ``data/split/{images,masks}``.

    Parameters
    ----------
    data
        Folder of the set.
    split
        ``train``, ``validation`` or ``test``.
    n_bands
        Bands an image must have.

    Returns
    -------
    list of Chip
        By name. Pixels that the image marks as nodata get mask code 255.

    Raises
    ------
    DataError
        Naming the file: an image without mask or the reverse, other shapes or band counts,
        strange codes, sides that are no multiple of 32.
    """
    folder = Path(data) / split
    images, masks = (_files(folder / kind) for kind in ("images", "masks"))
    if not images:
        raise DataError(f"{folder}/images: no GeoTIFF chips; {folder}/{{images,masks}} were wanted")
    for name in sorted(images.keys() ^ masks.keys()):
        present, absent = ("image", "mask") if name in images else ("mask", "image")
        raise DataError(f"{(images | masks)[name]}: {present} without {absent} of the same name")
    chips = [_read_chip(images[name], masks[name], n_bands) for name in sorted(images)]
    kinds = sorted({str(chip.dn.dtype) for chip in chips})
    if len(kinds) > 1:
        raise DataError(f"{folder}/images: chips of types {', '.join(kinds)}; one was wanted")
    return chips


def _files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; images/ and masks/ were wanted")
    return {path.stem: path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES}


def _read_chip(image: Path, label: Path, n_bands: int) -> Chip:
    dn, nodata = _read(image)
    mask, _ = _read(label)
    if dn.shape[0] != n_bands:
        raise DataError(f"{image}: {dn.shape[0]} bands, {n_bands} were wanted")
    if mask.shape[0] != 1 or mask.shape[1:] != dn.shape[1:]:
        raise DataError(f"{label}: shape {mask.shape}, (1, {dn.shape[1]}, {dn.shape[2]}) wanted")
    if dn.shape[1] % 32 or dn.shape[2] % 32:
        raise DataError(f"{image}: {dn.shape[1]} x {dn.shape[2]} px; multiples of 32 were wanted")
    strange = np.setdiff1d(mask, _CODES)
    if strange.size:
        raise DataError(f"{label}: code {strange[0]}; 0 other, 1 forest, 255 unknown were wanted")
    codes = mask[0].astype(np.uint8)
    codes[~observed(dn, nodata=nodata)] = NO_OBSERVATION
    return Chip(image.stem, dn, codes)


def _read(path: Path) -> tuple[Array, tuple[float | None, ...]]:
    import warnings

    try:
        with warnings.catch_warnings():
            # Chips need no georeference.
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as source:
                values: Array = source.read()
                return values, source.nodatavals
    except RasterioIOError as error:
        raise DataError(f"{path}: not a raster that GDAL can read ({error})") from error


def channel_statistics(chips: Sequence[Chip]) -> BandStatistics:
    """Mean and standard deviation a band over labelled pixels, in one pass, float64."""
    statistics = BandStatistics()
    for chip in chips:
        statistics += BandStatistics.of(chip.dn, chip.valid)
    return statistics


class ChipDataset(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Normalised and augmented chips for a data loader.

    Parameters
    ----------
    chips
        Kept in memory as stored.
    mean, std
        In stored units, one a band.
    augmentation
        ``none``; ``d4``: flips and quarter turns; ``strong``: also changes of brightness, and
        rectangles of other chips (which must have the same shape); ``transpose``: as ``strong``,
        but turned about the main diagonal only. Flips and turns blur labels that all lie a
        fraction of a pixel off their images to the same side, because they turn the offset too;
        in a transpose it keeps its side.

    Notes
    -----
    Items are ``(image, mask)``: float32 ``(band, row, col)`` and uint8 ``(row, col)``. Randomness
    comes from torch's generator, so that one seed rules all.
    """

    def __init__(
        self,
        chips: Sequence[Chip],
        *,
        mean: NDArray[np.float64],
        std: NDArray[np.float64],
        augmentation: Augmentation = "none",
    ) -> None:
        self._chips = chips
        self._mean = torch.from_numpy(mean.astype(np.float32))[:, None, None]
        self._std = torch.from_numpy(std.astype(np.float32))[:, None, None]
        self._augmentation = augmentation

    def __len__(self) -> int:
        return len(self._chips)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, mask = self._augmented(index)
        if self._augmentation in _MIXING and torch.rand(()) < 0.5:
            other = self._augmented(int(torch.randint(len(self._chips), ())))
            image, mask = _paste(image, mask, *other)
        return image, mask

    def _augmented(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        chip = self._chips[index]
        # As in prediction: what was not observed enters as the training mean.
        dn = torch.where(
            torch.from_numpy(chip.valid), torch.from_numpy(chip.dn.astype(np.float32)), self._mean
        )
        mask = torch.from_numpy(chip.mask)
        if self._augmentation in _MIXING:
            dn = _gain(dn)
        if self._augmentation == "transpose":
            dn, mask = _transpose(dn, mask)
        elif self._augmentation != "none":
            dn, mask = _d4(dn, mask)
        return (dn - self._mean) / self._std, mask


def _d4(image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    turns, flip = int(torch.randint(4, ())), bool(torch.rand(()) < 0.5)
    image, mask = image.rot90(turns, (-2, -1)), mask.rot90(turns, (-2, -1))
    return (image.flip(-1), mask.flip(-1)) if flip else (image, mask)


def _transpose(image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if torch.rand(()) < 0.5:
        return image.transpose(-2, -1), mask.transpose(-2, -1)
    return image, mask


def _gain(image: torch.Tensor) -> torch.Tensor:
    """Brightness of the whole chip and of each band: haze, season, view angle."""
    whole, each = torch.randn(()) * 0.10, torch.randn(len(image), 1, 1) * 0.06
    return image * torch.exp(whole + each)


def _paste(
    image: torch.Tensor, mask: torch.Tensor, other: torch.Tensor, other_mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Put a random rectangle of another chip in its place here (CutMix, Yun et al. 2019).

    Pixels stay as they were measured; zooming would blur the edges of forest.
    """
    rows, cols = mask.shape
    height, width = (int(n * (0.25 + 0.5 * float(torch.rand(())))) for n in (rows, cols))
    top = int(torch.randint(rows - height + 1, ()))
    left = int(torch.randint(cols - width + 1, ()))
    inside = torch.zeros(rows, cols, dtype=torch.bool)
    inside[top : top + height, left : left + width] = True
    return torch.where(inside, other, image), torch.where(inside, other_mask, mask)
