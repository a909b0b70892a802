"""Settings of a map, checked once at the edge of the program."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from geoforest.models.runtimes import MapPrecision, MapRuntime
from geoforest.pipeline.descriptions import MAP_OPTIONS
from geoforest.report.language import LanguageCode
from geoforest.scenes.clouds.mask import CloudMaskKind

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from geoforest.types import Factor

Product = Literal["mask", "probability", "polygons", "report"]

Factors = Annotated[
    tuple[float, ...], BeforeValidator(lambda v: (v,) if isinstance(v, int | float) else v)
]
"""One number for all bands, or one per band; a single number is accepted, too."""


def _as_products(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return [name.strip() for name in value.split(",") if name.strip()]


def _as_bytes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    from dask.utils import parse_bytes

    return parse_bytes(value)


def _option(name: str, **constraints: Any) -> Any:
    """Build the field of an option; default and description come from ``MAP_OPTIONS``."""
    option = MAP_OPTIONS[name]
    return Field(default=option.default, description=option.help, **constraints)


class MapSettings(BaseModel):
    """Settings of a map. Unknown names are refused.

    Each field is an option of ``geoforest map`` and a keyword of ``geoforest.map_scene``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: Annotated[str, BeforeValidator(str)] = _option("model")
    bands: tuple[int, ...] | None = _option("bands")
    scale: Annotated[Factors, Field(min_length=1)] | None = _option("scale")
    offset: Annotated[Factors, Field(min_length=1)] | None = _option("offset")
    nodata: Annotated[float, Field(allow_inf_nan=True)] | None = _option("nodata")
    aoi: Path | None = _option("aoi")
    cloud_mask: CloudMaskKind = _option("cloud_mask")
    cloud_buffer: float = _option("cloud_buffer", ge=0, le=10_000)
    mask_snow: bool = _option("mask_snow")
    threshold: Annotated[float, Field(ge=0, le=1)] | None = _option("threshold")
    min_area_ha: float = _option("min_area_ha", ge=0)
    max_vertices: int = _option("max_vertices", ge=0)
    products: Annotated[frozenset[Product], BeforeValidator(_as_products)] = _option(
        "products", min_length=1, validate_default=True
    )
    scene_id: str | None = _option("scene_id")
    window: int | None = _option("window", ge=32, le=8192, multiple_of=32)
    halo: int = _option("halo", ge=0)
    shard: Annotated[int, Field(ge=1)] | None = _option("shard")
    batch_size: int | None = _option("batch_size", ge=1, le=1024)
    device: str = _option("device")
    workers: int = _option("workers", ge=0)
    scheduler: str | None = _option("scheduler")
    max_memory: Annotated[int, BeforeValidator(_as_bytes), Field(gt=0)] | None = _option(
        "max_memory"
    )
    language: LanguageCode = _option("language")
    allow_gaps: bool = _option("allow_gaps")
    runtime: MapRuntime = _option("runtime")
    precision: MapPrecision | None = _option("precision")
    check_halo: bool = _option("check_halo")
    zones: Annotated[str, BeforeValidator(str)] | None = _option("zones")
    by: str | None = _option("by")
    overwrite: bool = _option("overwrite")
    keep_work: bool = _option("keep_work")

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
            raise ValueError(f"cloud mask {self.cloud_mask} finds no snow: only the SCL does")
        if self.scale is not None and 0 in self.scale:
            raise ValueError("a scale of 0 leaves nothing to see")
        return self


class MapOptions(TypedDict, total=False):
    """Keywords of ``geoforest.map_scene``, for type checkers: the fields of :class:`MapSettings`.

    Meanings and defaults are in :mod:`geoforest.pipeline.descriptions`.
    """

    model: str | Path
    bands: Sequence[int] | None
    scale: Factor | None
    offset: Factor | None
    nodata: float | None
    aoi: str | Path | None
    cloud_mask: CloudMaskKind
    cloud_buffer: float
    mask_snow: bool
    threshold: float | None
    min_area_ha: float
    max_vertices: int
    products: str | Collection[Product]
    scene_id: str | None
    window: int | None
    halo: int
    shard: int | None
    batch_size: int | None
    device: str
    workers: int
    scheduler: str | None
    max_memory: int | str | None
    language: LanguageCode
    allow_gaps: bool
    runtime: MapRuntime
    precision: MapPrecision | None
    check_halo: bool
    zones: str | Path | None
    by: str | None
    overwrite: bool
    keep_work: bool
