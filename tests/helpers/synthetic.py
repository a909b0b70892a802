"""Scenes, masks and models made by code for tests: small, seeded, and nothing from outside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

from geoforest.models.bundle import ModelCard
from geoforest.types import Array, Factor, Valid

BANDS = ("B04", "B03", "B02", "B08")
UTM_20S = "EPSG:32720"
TRANSFORM = Affine(10, 0, 500_000, 0, -10, 8_900_000)


def digital_numbers(shape: tuple[int, int], seed: int = 0, dtype: str = "uint16") -> Array:
    """Smooth patches of forest and pasture, ``(4, rows, cols)``, never 0."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=shape), 6, mode="reflect")
    forest = field > np.median(field)
    red = np.where(forest, 250, 900) + rng.normal(0, 30, shape)
    green = np.where(forest, 420, 850) + rng.normal(0, 30, shape)
    blue = np.where(forest, 230, 600) + rng.normal(0, 20, shape)
    nir = np.where(forest, 3300, 2600) + rng.normal(0, 150, shape)
    dn = np.stack([red, green, blue, nir]).clip(1, 10_000)
    if dtype == "uint8":
        dn = (dn / 40).clip(1, 255)
    if dtype == "float32":
        return (dn / 10_000).astype("float32")
    return dn.astype(dtype)


def write_raster(
    path: Path,
    dn: Array,
    *,
    descriptions: tuple[str, ...] | None = BANDS,
    crs: str | None = UTM_20S,
    transform: Affine = TRANSFORM,
    **profile: object,
) -> Path:
    """Write ``(band, row, col)`` as a GeoTIFF with band descriptions."""
    settings = {"driver": "GTiff", "compress": "deflate", **profile}
    if crs is not None:
        settings |= {"crs": crs, "transform": transform}
    with rasterio.open(
        path,
        "w",
        height=dn.shape[1],
        width=dn.shape[2],
        count=dn.shape[0],
        dtype=dn.dtype,
        **settings,
    ) as target:
        target.write(dn)
        if descriptions is not None:
            target.descriptions = descriptions
    return path


def write_chips(folder: Path, n_chips: dict[str, int], *, bands: int = 4) -> Path:
    """Write a set of 64 px chips whose forest is dark in red and green: a number for each split."""
    for number, (split, count) in enumerate(n_chips.items()):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for index in range(count):
            dn = digital_numbers((64, 64), seed=100 * number + index)[:bands]
            mask = (dn[:1] < 550).astype("uint8")
            write_raster(folder / split / "images" / f"{index}.tif", dn, descriptions=None)
            write_raster(folder / split / "masks" / f"{index}.tif", mask, descriptions=None)
    return folder


def card(**changes: object) -> ModelCard:
    """A card for a tiny four-band network on 64 px windows."""
    values: dict[str, object] = {
        "name": "tiny",
        "encoder": "mobilenet_v2",
        "in_channels": 4,
        "bands": BANDS,
        "mean": (575.0, 635.0, 415.0, 2950.0),
        "std": (330.0, 220.0, 190.0, 380.0),
        "window": 64,
        "threshold": 0.5,
        **changes,
    }
    return ModelCard.model_validate(values)


class LocalPredictor:
    """A predictor whose result at a pixel depends on the 5 x 5 px around it, and on nothing else.

    The probability is a logistic of the mean difference of near infrared and red.
    """

    radius = 2

    def __call__(
        self, dn: Array, scale: Factor = 1e-4, offset: Factor = 0.0, valid: Valid | None = None
    ) -> np.ndarray:
        factor = np.broadcast_to(np.asarray(scale, np.float64), dn.shape[1])
        shift = np.broadcast_to(np.asarray(offset, np.float64), dn.shape[1])
        reflectance = dn * factor[None, :, None, None] + shift[None, :, None, None]
        difference = reflectance[:, 3] - reflectance[:, 0]
        if valid is not None:
            difference = np.where(valid, difference, 0.2)
        r = self.radius
        padded = np.pad(difference, ((0, 0), (r, r), (r, r)), mode="edge")
        total = sum(
            padded[:, i : i + dn.shape[2], j : j + dn.shape[3]]
            for i in range(2 * r + 1)
            for j in range(2 * r + 1)
        )
        mean = total / (2 * r + 1) ** 2
        return (1 / (1 + np.exp(-40 * (mean - 0.24)))).astype(np.float32)


class EdgePredictor:
    """Less sure within 6 px of two edges of its window, as networks with padding are of four."""

    def __call__(self, dn, scale=1e-4, offset=0.0, valid=None):
        made = np.broadcast_to(0.6 + 0.1 * (dn[:, 0] % 2), dn[:, 0].shape).astype(np.float32)
        made = made.copy()
        made[:, :6] -= 0.3
        made[:, :, :6] -= 0.3
        return made


class IdentityPredictor:
    """Gives the first band back as probability: ``dn * scale``."""

    def __call__(
        self, dn: Array, scale: Factor = 1e-4, offset: Factor = 0.0, valid: Valid | None = None
    ) -> np.ndarray:
        first = np.broadcast_to(np.asarray(scale, np.float64), dn.shape[1])[0]
        return (dn[:, 0] * first).astype(np.float32)


def load_local_predictor(job: object) -> LocalPredictor:
    """For ``map_scene(load_predictor=...)``."""
    return LocalPredictor()
