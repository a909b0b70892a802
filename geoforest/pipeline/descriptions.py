"""Options of a map, each written once: its default, what it does, and its panel in ``--help``.

The command line, :class:`geoforest.pipeline.settings.MapSettings` and the documentation come from
here. Nothing heavy is imported: the command line starts with this module, long before any work.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from geoforest.report.language import LanguageCode


@dataclass(frozen=True)
class Option:
    """One option of ``geoforest map``, which is a keyword of ``geoforest.map_scene``, too.

    Attributes
    ----------
    help
        What it does: a whole sentence or two, for ``--help`` and for the documentation.
    default
        What it is when nobody gives it.
    kind
        Its type on the command line; by default that of ``default``.
    metavar
        What stands for its value in ``--help``; by default its type.
    panel
        Panel of ``--help`` that lists it; by default that of the options without a panel.
    """

    help: str
    default: Any = None
    kind: Any = None
    metavar: str | None = None
    panel: str | None = None

    @property
    def annotation(self) -> Any:
        """Type on the command line; None is allowed where it is the default."""
        kind = type(self.default) if self.kind is None else self.kind
        return kind | None if self.default is None else kind


INPUT, SEARCH, CLOUDS, OUTPUT, SPEED, CHECKS = (
    "Input",
    "Search",
    "Clouds",
    "Output",
    "Speed",
    "Checks",
)
"""Panels of ``geoforest map --help``, in their order."""

_INPUT = {
    "model": Option(
        "Map with this model: `bundled`, a bundle folder or .zip, or any other model reference.",
        default="bundled",
    ),
    "threshold": Option(
        "Call a pixel forest at or above this probability. By default the model's own.", kind=float
    ),
    "bands": Option(
        "Read these 1-based bands of the raster, in the model's band order, e.g. 3,2,1,4.",
        kind=str,
    ),
    "scale": Option(
        "Compute reflectance = DN x scale + offset: one number, or one per band. By default the "
        "product's own, else the raster's tags, else 1e-4.",
        kind=str,
    ),
    "offset": Option(
        "See --scale, e.g. -0.1. By default the product's own, else the raster's tags, else 0.",
        kind=str,
    ),
    "nodata": Option(
        "Take pixels of this value for unobserved, in place of the file's own nodata value.",
        kind=float,
    ),
    "aoi": Option(
        "Map only inside the polygons of this vector file; the map is 255 outside.",
        kind=Path,
    ),
    "scene_id": Option(
        "Name the scene, in place of the product's id or the file's stem; for one scene.",
        kind=str,
    ),
}
_CLOUDS = {
    "cloud_mask": Option(
        "Mask clouds and their shadows, which become 255, by `scl` (the product's scene "
        "classification), `ukis` (a network), `none`, or `auto` (scl where there is one).",
        default="auto",
    ),
    "cloud_buffer": Option(
        "Mask this distance around clouds, too, in metres.", default=100.0, metavar="M"
    ),
    "mask_snow": Option("Mask snow of the scene classification like clouds.", default=False),
}
_OUTPUT = {
    "products": Option("Keep these products.", default="mask,probability,polygons,report"),
    "min_area_ha": Option(
        "Drop patches and fill holes smaller than this (the minimum mapping unit), in hectares; 0 "
        "keeps all.",
        default=0.5,
    ),
    "max_vertices": Option(
        "Write patches with more vertices than this in parts; 0 never cuts.", default=100_000
    ),
    "zones": Option(
        "Report hectares for each polygon of this vector file, too, such as municipalities.",
        kind=str,
    ),
    "by": Option("With --zones: name the units by this field.", kind=str),
    "language": Option(
        "Write the page and the QGIS project in this language: en, or pt (Portuguese).",
        default="en",
        kind=LanguageCode,
    ),
    "allow_gaps": Option(
        "Finish with 255 where a shard failed for good, such as an unreadable part of the scene.",
        default=False,
    ),
    "overwrite": Option("Replace the outputs of another job.", default=False),
    "keep_work": Option("Keep the finished shards after success.", default=False),
}
_SPEED = {
    "workers": Option(
        "Start this number of worker processes on this machine; 0 computes in this process.",
        default=0,
    ),
    "scheduler": Option(
        "Use the workers of this Dask scheduler, e.g. tcp://host:8786.",
        kind=str,
        metavar="ADDRESS",
    ),
    "device": Option("Predict on this device: auto, cpu, cuda, or cuda:1.", default="auto"),
    "runtime": Option(
        "Run the network in torch, openvino, or auto, the fastest with the mask of torch.",
        default="auto",
    ),
    "precision": Option(
        "Compute the network in float32, bfloat16, float16 or int8. By default the runtime's best.",
        kind=str,
    ),
    "max_memory": Option(
        "Keep the peak memory of one worker below this, e.g. 4GB.", kind=str, metavar="BYTES"
    ),
    "batch_size": Option("Predict this number of windows per call of the network.", kind=int),
    "window": Option(
        "Let the network read squares of this side, halo included, in pixels.", kind=int
    ),
    "halo": Option(
        "Read this width of context around what is kept of a window, in pixels.", default=32
    ),
    "shard": Option(
        "Work and resume in squares of this side, in pixels, rounded up to whole cores. By default "
        "1792, or what --max-memory allows.",
        kind=int,
    ),
}
_CHECKS = {
    "check_halo": Option(
        "Predict a sample of cores again with twice the halo, and report what changes.",
        default=False,
    ),
}

MAP_OPTIONS: Final = {
    name: replace(option, panel=panel)
    for panel, options in (
        (INPUT, _INPUT),
        (CLOUDS, _CLOUDS),
        (OUTPUT, _OUTPUT),
        (SPEED, _SPEED),
        (CHECKS, _CHECKS),
    )
    for name, option in options.items()
}
