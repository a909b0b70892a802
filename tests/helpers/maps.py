"""Maps with known forest in any UTM zone: outputs of `map`, whose network reads the answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyproj
import shapely
from affine import Affine
from rasterio.features import geometry_mask

import geoforest
from geoforest.pipeline.job import Job
from tests.helpers import synthetic

BANDS = ("B04", "B03", "B02", "B08")
FOREST, OTHER = 230, 20


class Oracle:
    """A predictor that finds the stored probability in the first band."""

    def __call__(self, dn, scale=1e-4, offset=0.0, valid=None):
        return (dn[:, 0] / 250).astype(np.float32)


def load_oracle(job: Job) -> Oracle:
    return Oracle()


def in_zone(polygons: Sequence[shapely.Polygon], epsg: int) -> list[shapely.Polygon]:
    """Bring polygons from longitude and latitude to a zone."""
    move = pyproj.Transformer.from_crs(4326, epsg, always_xy=True)
    fine = shapely.segmentize(list(polygons), 0.0005)
    return list(shapely.transform(fine, lambda points: np.column_stack(move.transform(*points.T))))


def write_map(
    out: Path,
    name: str,
    bundle: Path,
    forest: Sequence[shapely.Polygon],
    *,
    epsg: int,
    left: float,
    top: float,
    shape: tuple[int, int],
    size: float = 10.0,
    acquired: datetime = datetime(2024, 7, 1, 14, tzinfo=UTC),
    unseen: Sequence[shapely.Polygon] = (),
    levels: tuple[int, int] = (OTHER, FOREST),
    **settings: object,
) -> Path:
    """Map a scene whose forest is known, in longitude and latitude; gives the folder."""
    transform = Affine(size, 0, left, 0, -size, top)
    dn = np.empty((4, *shape), np.uint16)
    covered = in_zone(forest, epsg)
    inside = np.zeros(shape, bool)
    if covered:
        inside = geometry_mask(covered, shape, transform, invert=True)
    dn[:] = np.where(inside, levels[1], levels[0])
    if unseen:
        dn[:, geometry_mask(in_zone(unseen, epsg), shape, transform, invert=True)] = 65_535
    product = name if "MSIL2A" in name else f"{name}_MSIL2A_{acquired:%Y%m%dT%H%M%S}"
    folder = out.parent / "scenes"
    folder.mkdir(exist_ok=True)
    scene = synthetic.write_raster(
        folder / f"{product}.tif", dn, crs=f"EPSG:{epsg}", transform=transform,
        nodata=65_535,
    )  # fmt: skip
    settings = {"products": "probability,mask", "window": 96, "halo": 0, **settings}
    result = geoforest.map_scene(scene, out, model=bundle, load_predictor=load_oracle, **settings)
    return result.folder
