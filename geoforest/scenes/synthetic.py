"""Draw a synthetic Sentinel-2 scene from a seed: a landscape like Rondonia's, but no real place.

Land cover is drawn first, then each class gets reflectances with texture. Class means, spreads
and band correlations follow Sentinel-2 L2A over tree cover, pasture, bare soil and water at 10 m;
texture is noise blurred by the sensor's point spread, plus slow variation. There is no regrowth: a
pixel is closed forest or it is not.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Final

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from scipy.ndimage import binary_dilation, gaussian_filter, zoom

from geoforest.types import FOREST, NO_OBSERVATION, OTHER, Array, Mask, Shape

BANDS: Final = ("B04", "B03", "B02", "B08")
CRS: Final = "EPSG:32720"
TRANSFORM: Final = Affine(10, 0, 560_000, 0, -10, 8_830_000)
ACQUIRED: Final = datetime(2020, 8, 1, 14, 27, 39, tzinfo=UTC)
_SIDE_ROADS_PX = 200
_LOT_PX = 45
_SHADOW_OFFSET_PX = (30, -22)

Floats = NDArray[np.float64]


class Cover(IntEnum):
    """Land cover classes of the scene; only ``FOREST`` is forest in the truth."""

    FOREST = 0
    PASTURE = 1
    DRY_PASTURE = 2
    SOIL = 3
    CROP = 4
    WATER = 5
    SAND = 6


# Mean reflectance x 10000 of red, green, blue, near infrared, and spread as a share of the mean.
_REFLECTANCE = {
    Cover.FOREST: ((205, 395, 205, 3150), 0.11),
    Cover.PASTURE: ((820, 930, 540, 2850), 0.07),
    Cover.DRY_PASTURE: ((1350, 1180, 800, 2650), 0.07),
    Cover.SOIL: ((2050, 1500, 1080, 2750), 0.08),
    Cover.CROP: ((560, 860, 440, 4300), 0.05),
    Cover.WATER: ((520, 640, 480, 330), 0.06),
    Cover.SAND: ((2500, 2200, 1750, 3000), 0.06),
}


@dataclass(frozen=True, eq=False)
class SyntheticScene:
    """A scene and its truth.

    Attributes
    ----------
    dn
        uint16 ``(4, row, col)`` in the order of :data:`BANDS`, reflectance x 10000, 0 = nodata.
    truth
        uint8 ``(row, col)``: 0 other, 1 forest, 255 beyond the swath, under cloud or in shadow.
    transform, crs
        Affine transform and CRS of the grid.
    acquired
        Invented time of acquisition, UTC.
    """

    dn: NDArray[np.uint16]
    truth: Mask
    transform: Affine = TRANSFORM
    crs: str = CRS
    acquired: datetime = ACQUIRED


def make_scene(
    seed: int = 7, shape: Shape = (2304, 2304), *, clear: bool = False
) -> SyntheticScene:
    """Draw a scene with its truth.

    Parameters
    ----------
    seed
        Seed of all random numbers.
    shape
        ``(rows, cols)``, at least 256 each.
    clear
        Leave out clouds and the edge of the swath.

    Raises
    ------
    ValueError
        When a side of ``shape`` is below 256.
    """
    if min(shape) < 256:
        raise ValueError(f"shape {shape}: at least 256 x 256 was wanted")
    rng = np.random.default_rng(seed)
    cover = _land_cover(rng, shape)
    reflectance = _reflectance(rng, cover)
    truth = np.where(cover == Cover.FOREST, FOREST, OTHER).astype(np.uint8)
    if not clear:
        _add_clouds(rng, reflectance, truth)
    dn = np.clip(np.rint(reflectance), 1, 20_000).astype(np.uint16)
    if not clear:
        beyond = _beyond_swath(shape)
        dn[:, beyond] = 0
        truth[beyond] = NO_OBSERVATION
    return SyntheticScene(dn, truth)


def make_chips(
    seed: int = 0, n_chips: int = 8, side: int = 256
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Cut labelled chips from a clear scene.

    Returns
    -------
    images
        uint16 ``(n, 4, side, side)``, reflectance x 10000, in the order of :data:`BANDS`.
    masks
        uint8 ``(n, side, side)``, 0 other, 1 forest.
    """
    across = int(np.ceil(np.sqrt(n_chips)))
    scene = make_scene(seed, (max(256, across * side),) * 2, clear=True)
    places = [divmod(index, across) for index in range(n_chips)]
    cuts = [
        (slice(row * side, (row + 1) * side), slice(col * side, (col + 1) * side))
        for row, col in places
    ]
    images = np.stack([scene.dn[:, rows, cols] for rows, cols in cuts])
    return images, np.stack([scene.truth[cut] for cut in cuts])


def write_chips(folder: str | Path, *, seed: int = 0, n_chips: int = 8, side: int = 256) -> None:
    """Write labelled chips of :func:`make_chips` as one split of a training set.

    Parameters
    ----------
    folder
        Folder of the split, such as ``chips/train``; its subfolders are ``images`` and ``masks``.
    seed
        Seed of the landscape; chips of different seeds share no ground.
    n_chips
        Number of chips. Files are named ``synthetic-<seed>-000.tif`` and so on; existing ones are
        replaced.
    side
        Side of a chip, px, a multiple of 32.
    """
    for name in ("images", "masks"):
        (Path(folder) / name).mkdir(parents=True, exist_ok=True)
    images, masks = make_chips(seed, n_chips, side)
    for index, (dn, mask) in enumerate(zip(images, masks, strict=True)):
        name = f"synthetic-{seed}-{index:03d}.tif"
        _write_chip(Path(folder) / "images" / name, dn, BANDS)
        _write_chip(Path(folder) / "masks" / name, mask[None], ("forest",))


def _write_chip(path: Path, values: Array, names: tuple[str, ...]) -> None:
    with warnings.catch_warnings():
        # Chips have no georeference.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=values.shape[1],
            width=values.shape[2],
            count=values.shape[0],
            dtype=values.dtype,
            compress="deflate",
        ) as target:
            target.write(values)
            target.descriptions = names
            target.update_tags(SYNTHETIC="YES")


def write_scene(scene: SyntheticScene, path: str | Path) -> None:
    """Write the scene as a tiled GeoTIFF with the tag ``SYNTHETIC=YES``."""
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=scene.truth.shape[0],
        width=scene.truth.shape[1],
        count=len(BANDS),
        dtype="uint16",
        crs=scene.crs,
        transform=scene.transform,
        nodata=0,
        tiled=True,
        blockxsize=512,
        blockysize=512,
        compress="deflate",
        predictor=2,
    ) as target:
        target.write(scene.dn)
        target.descriptions = BANDS
        target.update_tags(SYNTHETIC="YES")
        target.update_tags(ns="IMAGERY", ACQUISITIONDATETIME=f"{scene.acquired:%Y-%m-%d %H:%M:%S}")


def _land_cover(rng: np.random.Generator, shape: Shape) -> NDArray[np.uint8]:
    rows, cols = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    # Bend the coordinates, because nothing in a landscape is straight for long.
    bent_rows = rows + 16 * _slow_noise(rng, shape, 60) + 2.0 * _slow_noise(rng, shape, 6)
    bent_cols = cols + 16 * _slow_noise(rng, shape, 60) + 2.0 * _slow_noise(rng, shape, 6)
    cover = np.full(shape, Cover.FOREST, np.uint8)
    _clear_fishbone(rng, cover, bent_rows, bent_cols)
    wooded = _slow_noise(rng, shape, 7) + 0.8 * _slow_noise(rng, shape, 20) > 2.1
    cover[wooded] = Cover.FOREST
    _draw_ponds(rng, cover)
    _draw_river(rng, cover, rows, bent_cols)
    return cover


def _clear_fishbone(
    rng: np.random.Generator, cover: NDArray[np.uint8], rows: Floats, cols: Floats
) -> None:
    """Draw a main road, side roads on both sides of it, and lots cleared from the roads inwards."""
    n_rows, n_cols = cover.shape
    main_road = 0.36 * n_cols
    bone = np.rint(rows / _SIDE_ROADS_PX).astype(int)
    across = rows - bone * _SIDE_ROADS_PX
    along = np.abs(cols - main_road)
    bone = np.clip(bone, 0, n_rows // _SIDE_ROADS_PX + 1)
    side = (cols > main_road).astype(int)
    n_bones = n_rows // _SIDE_ROADS_PX + 2
    reach = n_cols * rng.uniform(0.2, 0.62, (n_bones, 2))[bone, side]
    lot = np.clip(along // _LOT_PX, 0, n_cols // _LOT_PX + 1).astype(int)
    n_lots = n_cols // _LOT_PX + 2
    # One depth and one use per lot: (bone, side of the bone, side of the main road, lot).
    key = (bone, (across > 0).astype(int), side, lot)
    size = (n_bones, 2, 2, n_lots)
    # The oldest clearings, near the main road, touch each other; those at the frontier are young.
    youth = np.clip(along / reach, 0, 1)
    depth = rng.uniform(0.45, 1.15, size)[key] * _SIDE_ROADS_PX / 2 * (1.05 - 0.75 * youth)
    kept = rng.random(size)[key] < 0.12 + 0.25 * youth
    cleared = (np.abs(across) < depth) & (along < reach) & ~kept
    use = rng.choice(
        [Cover.PASTURE, Cover.DRY_PASTURE, Cover.SOIL, Cover.CROP],
        p=[0.6, 0.2, 0.1, 0.1],
        size=size,
    )[key]
    cover[cleared] = use[cleared]
    road = ((np.abs(across) < 1.2) & (along < reach)) | (along < 2.2)
    cover[road] = Cover.SOIL


def _draw_ponds(rng: np.random.Generator, cover: NDArray[np.uint8]) -> None:
    rows, cols = np.nonzero(cover == Cover.PASTURE)
    if not len(rows):
        return
    seeds = np.zeros(cover.shape, np.bool_)
    chosen = rng.choice(len(rows), size=max(1, cover.size // 130_000))
    seeds[rows[chosen], cols[chosen]] = True
    disc = np.hypot(*np.ogrid[-4:5, -4:5]) < 4.2
    cover[binary_dilation(seeds, disc)] = Cover.WATER


def _draw_river(
    rng: np.random.Generator, cover: NDArray[np.uint8], rows: Array, cols: Floats
) -> None:
    """Draw a meandering river with gallery forest, and sand in its bends."""
    n_rows, n_cols = cover.shape
    phase = rng.uniform(0, 2 * np.pi, 3)
    line = np.arange(n_rows)
    course = 0.74 * n_cols + 0.05 * n_cols * np.sin(line / 310 + phase[0])
    course += 55 * np.sin(line / 95 + phase[1]) + 18 * np.sin(line / 37 + phase[2])
    width = 9 + 3 * np.sin(line / 140 + phase[1])
    distance = cols - course[rows]
    bend = np.gradient(np.gradient(gaussian_filter(course, 8)))
    cover[np.abs(distance) < width[rows] + 14] = Cover.FOREST
    inner = np.sign(bend)[rows] * distance
    sandy = (np.abs(bend) > 0.6 * np.abs(bend).max())[rows]
    cover[(np.abs(distance) < width[rows] + 5) & (inner > 0) & sandy] = Cover.SAND
    cover[np.abs(distance) < width[rows]] = Cover.WATER


def _reflectance(rng: np.random.Generator, cover: NDArray[np.uint8]) -> Floats:
    """Draw the reflectance x 10000 of a land cover, ``(4, row, col)``."""
    shape = cover.shape
    means = np.array([_REFLECTANCE[kind][0] for kind in Cover], np.float64)
    spreads = np.array([_REFLECTANCE[kind][1] for kind in Cover])
    # The sensor mixes neighbouring pixels, so edges are half a pixel wide.
    reflectance = np.stack([gaussian_filter(band[cover], 0.55) for band in means.T])
    spread = spreads[cover]
    # Crowns and their shadows change all bands together.
    crowns = _texture(rng, shape, 0.9)
    field = 0.6 * _slow_noise(rng, shape, 25) + 0.8 * _slow_noise(rng, shape, 5)
    is_forest = cover == Cover.FOREST
    common = np.where(is_forest, crowns + 0.5 * field, 0.35 * crowns + field)
    for index in range(len(reflectance)):
        own = _texture(rng, shape, 0.7)
        strength = 1.0 if index == 3 else np.where(is_forest, 1.3, 1.0)
        reflectance[index] *= 1 + spread * (strength * common + 0.45 * own)
        reflectance[index] += rng.normal(0, 8, shape)
    return reflectance


def _add_clouds(rng: np.random.Generator, reflectance: Floats, truth: Mask) -> None:
    """Draw cumulus and its shadow in place; both become unobserved in the truth."""
    shape = truth.shape
    field = _slow_noise(rng, shape, 70) + 0.75 * _slow_noise(rng, shape, 22)
    field += 0.25 * _slow_noise(rng, shape, 6)
    opacity = np.clip((field - 2.35) / 0.5, 0, 1)
    opacity = gaussian_filter(opacity, 1.5)
    shadow = gaussian_filter(np.roll(opacity, _SHADOW_OFFSET_PX, axis=(0, 1)), 2.0)
    white = np.array([6200.0, 6300, 6500, 6600])[:, None, None]
    reflectance *= 1 - 0.6 * shadow
    reflectance += opacity * (white * (0.92 + 0.08 * _slow_noise(rng, shape, 9)) - reflectance)
    truth[(opacity > 0.02) | (shadow > 0.05)] = NO_OBSERVATION


def _beyond_swath(shape: Shape) -> NDArray[np.bool_]:
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    edge = shape[1] * 0.99 - (shape[0] - rows) * 0.12
    return np.asarray(cols > edge)


def _slow_noise(rng: np.random.Generator, shape: Shape, scale: float) -> Floats:
    """Draw noise with a correlation length of ``scale`` px, mean 0, standard deviation 1."""
    # Drawn on a coarse grid and enlarged: a wide blur at full size would take seconds.
    factor = max(1.0, scale / 3)
    coarse = tuple(int(side / factor) + 4 for side in shape)
    noise = gaussian_filter(rng.normal(size=coarse), scale / factor)
    noise = zoom(noise, factor * 1.02, order=1)[: shape[0], : shape[1]] if factor > 1 else noise
    noise = noise[: shape[0], : shape[1]]
    return np.asarray((noise - noise.mean()) / noise.std())


def _texture(rng: np.random.Generator, shape: Shape, blur: float) -> Floats:
    """Draw pixel noise blurred by a point spread of ``blur`` px, standard deviation 1."""
    noise = gaussian_filter(rng.normal(size=shape), blur)
    return np.asarray(noise / noise.std())
