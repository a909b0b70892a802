"""Map jobs whose network is the arithmetic of one small predictor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio

import geoforest
from tests.helpers.synthetic import load_local_predictor

PRODUCTS = ("forest_mask.tif", "forest_probability.tif", "forest.gpkg")


def run(scene: Path, out: Path, bundle, **settings) -> geoforest.MapResult:
    chosen = {"model": str(bundle.path), "halo": 8, "shard": 96, "min_area_ha": 0.0, **settings}
    return geoforest.map_scene(scene, out, load_predictor=load_local_predictor, **chosen)


def run_rasters(scene: Path, out: Path, bundle, **settings) -> geoforest.MapResult:
    """Run for mask and probability alone."""
    return run(scene, out, bundle, **{"products": "mask,probability", **settings})


def products(result: geoforest.MapResult) -> dict[str, bytes]:
    return {name: (result.folder / name).read_bytes() for name in PRODUCTS}


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read(1)


def run_without_model(scene: Path, out: Path, bundle, **settings) -> geoforest.MapResult:
    def refuse(job):
        raise AssertionError("the model was loaded again")

    refuse.__module__, refuse.__qualname__ = (
        load_local_predictor.__module__, load_local_predictor.__qualname__
    )  # fmt: skip
    return geoforest.map_scene(
        scene, out, load_predictor=refuse, model=str(bundle.path), halo=8, **settings
    )
