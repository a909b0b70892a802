"""Settings of a map job, checked once at the edge. Inside, functions take plain arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Product = Literal["mask", "probability", "polygons", "report"]
ALL_PRODUCTS: tuple[Product, ...] = ("mask", "probability", "polygons", "report")


class MapSettings(BaseModel):
    """How a scene is to be mapped. Unknown names are refused.

    Each field is an option of ``geoforest map`` and a keyword of ``geoforest.map_scene``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(default="bundled", description="`bundled`, a bundle folder or a .zip")
    bands: tuple[int, ...] | None = Field(
        default=None, description="1-based band numbers, in the order of the model's bands"
    )
    scale: tuple[float, ...] = Field(default=(1e-4,), description="reflectance = DN * scale + ...")
    offset: tuple[float, ...] = Field(default=(0.0,), description="... + offset")
    nodata: float | None = Field(default=None, description="replaces the file's nodata value")
    aoi: Path | None = Field(default=None, description="vector file that limits the work")
    threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="probability at or above which a pixel is forest"
    )
    min_area_ha: float = Field(default=0.5, ge=0, description="minimum mapping unit; 0 keeps all")
    max_vertices: int = Field(default=100_000, ge=0, description="0 never cuts a patch")
    products: frozenset[Product] = frozenset(ALL_PRODUCTS)
    scene_id: str | None = None
    window: int | None = Field(default=None, ge=32, le=8192, multiple_of=32)
    halo: int = Field(default=32, ge=0)
    shard: int = Field(default=1792, ge=1, description="pixels, rounded up to whole cores")
    batch_size: int | None = Field(default=None, ge=1, le=1024)
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1 ...")
    overwrite: bool = False
    keep_work: bool = False

    @model_validator(mode="after")
    def _halo_leaves_a_core(self) -> MapSettings:
        if self.window is not None and 2 * self.halo >= self.window:
            raise ValueError(f"halo {self.halo} leaves no core in a window of {self.window}")
        if not self.products:
            raise ValueError("at least one product is wanted")
        return self
