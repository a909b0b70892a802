"""Settings of a map, checked once at the edge of the program."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from geoforest.models.runtimes import MapPrecision, MapRuntime
from geoforest.scenes.clouds.mask import CloudMaskKind

Product = Literal["mask", "probability", "polygons", "report"]
ALL_PRODUCTS: tuple[Product, ...] = ("mask", "probability", "polygons", "report")


Factors = Annotated[
    tuple[float, ...], BeforeValidator(lambda v: (v,) if isinstance(v, int | float) else v)
]
"""One number for all bands, or one a band; a number alone will do."""


def _as_products(value: Any) -> Any:
    return value.split(",") if isinstance(value, str) else value


def _as_bytes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    from dask.utils import parse_bytes

    return parse_bytes(value)


class MapSettings(BaseModel):
    """How a scene is to be mapped. Unknown names are refused.

    Each field is an option of ``geoforest map`` and a keyword of ``geoforest.map_scene``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: Annotated[str, BeforeValidator(str)] = Field(
        default="bundled", description="reference of a model bundle"
    )
    bands: tuple[int, ...] | None = Field(
        default=None, description="1-based band numbers, in the order of the model's bands"
    )
    scale: Annotated[Factors, Field(min_length=1)] | None = Field(
        default=None, description="reflectance = DN * scale + ...; the product's own, or 1e-4"
    )
    offset: Annotated[Factors, Field(min_length=1)] | None = Field(
        default=None, description="... + offset; the product's own, or 0"
    )
    nodata: Annotated[float, Field(allow_inf_nan=True)] | None = Field(
        default=None, description="replaces the file's nodata value"
    )
    aoi: Path | None = Field(default=None, description="vector file that limits the work")
    cloud_mask: CloudMaskKind = Field(
        default="auto", description="who tells clouds; the scene's own SCL where it has one"
    )
    cloud_buffer: float = Field(
        default=100.0, ge=0, le=10_000, description="metres around clouds that are masked, too"
    )
    mask_snow: bool = Field(default=False, description="snow in the SCL counts as cloud")
    threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="probability at or above which a pixel is forest"
    )
    min_area_ha: float = Field(default=0.5, ge=0, description="minimum mapping unit; 0 keeps all")
    max_vertices: int = Field(default=100_000, ge=0, description="0 never cuts a patch")
    products: Annotated[frozenset[Product], BeforeValidator(_as_products)] = Field(
        default=frozenset(ALL_PRODUCTS), min_length=1
    )
    scene_id: str | None = None
    window: int | None = Field(default=None, ge=32, le=8192, multiple_of=32)
    halo: int = Field(default=32, ge=0)
    shard: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="pixels, rounded up to whole cores; 1792, or what fits"
    )
    batch_size: int | None = Field(default=None, ge=1, le=1024)
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1 ...")
    workers: int = Field(default=0, ge=0, description="processes here; 0: in this process")
    scheduler: str | None = Field(default=None, description="of a Dask cluster, tcp://host:8786")
    max_memory: Annotated[int, BeforeValidator(_as_bytes), Field(gt=0)] | None = Field(
        default=None, description="bytes a worker may use at its peak, such as 4GB"
    )
    allow_gaps: bool = Field(default=False, description="255 where shards failed for good")
    runtime: MapRuntime = Field(
        default="auto", description="what computes; the fastest that gives the reference's mask"
    )
    precision: MapPrecision | None = Field(
        default=None, description="of the network's arithmetic; by default as the runtime chooses"
    )
    check_halo: bool = Field(
        default=False, description="predict a sample of cores again with twice the halo"
    )
    zones: Annotated[str, BeforeValidator(str)] | None = Field(
        default=None, description="vector file with polygons; hectares by unit are told, too"
    )
    by: str | None = Field(default=None, description="field of zones that names units")
    overwrite: bool = False
    keep_work: bool = False

    @field_validator("device")
    @classmethod
    def _is_a_device(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
            raise ValueError("not a device; auto, cpu, cuda or cuda:1 was wanted")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> MapSettings:
        if self.window is not None and 2 * self.halo >= self.window:
            raise ValueError(f"halo {self.halo} leaves no core in a window of {self.window}")
        if self.workers and self.scheduler:
            raise ValueError("--workers starts processes here, and --scheduler has its own: one")
        if self.check_halo and self.scheduler:
            raise ValueError(
                "--check-halo predicts in this process, and --scheduler elsewhere: one"
            )
        if ":" in self.device and (self.workers or self.scheduler):
            raise ValueError(
                f"device {self.device} for several workers: each takes one of its own; "
                "cuda was wanted, and CUDA_VISIBLE_DEVICES to choose"
            )
        if self.mask_snow and self.cloud_mask in {"none", "ukis"}:
            raise ValueError(f"cloud mask {self.cloud_mask} tells no snow: that is in the SCL")
        if self.scale is not None and 0 in self.scale:
            raise ValueError("a scale of 0 leaves nothing to see")
        return self
