"""Options of a map, each written once: its default, and what it does.

The command line, :class:`geoforest.pipeline.settings.MapSettings` and the documentation come from
here. Nothing heavy is imported: the command line starts with this module, long before any work.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final


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
    """

    help: str
    default: Any = None
    kind: Any = None
    metavar: str | None = None

    @property
    def annotation(self) -> Any:
        """Type on the command line; None is allowed where it is the default."""
        kind = type(self.default) if self.kind is None else self.kind
        return kind | None if self.default is None else kind


MAP_OPTIONS: Final = {
    "model": Option(
        "Model to map with: `bundled`, a bundle folder or .zip, or any other model reference.",
        default="bundled",
    ),
    "threshold": Option(
        "Probability at or above which a pixel is forest. By default the model's own.", kind=float
    ),
    "bands": Option(
        "1-based band numbers of the raster in the model's band order, e.g. 3,2,1,4.", kind=str
    ),
    "scale": Option(
        "Reflectance = DN x scale + offset: one number, or one per band. By default the "
        "product's own, else the raster's tags, else 1e-4.",
        kind=str,
    ),
    "offset": Option(
        "See --scale, e.g. -0.1. By default the product's own, else the raster's tags, else 0.",
        kind=str,
    ),
    "nodata": Option(
        "Value of unobserved pixels, in place of the file's own nodata value.", kind=float
    ),
    "aoi": Option(
        "Vector file with the area of interest: the map is made inside, and 255 outside.",
        kind=Path,
    ),
    "cloud_mask": Option(
        "What finds clouds and their shadows, which become 255: `scl` (the product's scene "
        "classification), `ukis` (a network), `none`, or `auto` (scl where there is one).",
        default="auto",
    ),
    "cloud_buffer": Option(
        "Distance around clouds that is masked, too, in metres.", default=100.0, metavar="M"
    ),
    "mask_snow": Option("Mask snow of the scene classification like clouds.", default=False),
    "min_area_ha": Option(
        "Minimum mapping unit for patches and holes, in hectares; 0 keeps all.", default=0.5
    ),
    "max_vertices": Option(
        "Write patches with more vertices than this in parts; 0 never cuts.", default=100_000
    ),
    "products": Option("Products to keep.", default="mask,probability,polygons,report"),
    "zones": Option("Vector file with polygons: report hectares for each of them, too.", kind=str),
    "by": Option("With --zones: the field that names the units.", kind=str),
    "scene_id": Option(
        "Scene id in place of the product's id or the file's stem; for one scene.", kind=str
    ),
    "window": Option(
        "Side of the square that the network reads, halo included, in pixels.", kind=int
    ),
    "halo": Option(
        "Width of the ring of context that is read and not kept, in pixels.", default=32
    ),
    "shard": Option(
        "Side of a shard, the unit of work and resume, in pixels; rounded up to whole cores. By "
        "default 1792, or what --max-memory allows.",
        kind=int,
    ),
    "batch_size": Option("Windows per call of the network.", kind=int),
    "device": Option("Device: auto, cpu, cuda, or cuda:1.", default="auto"),
    "workers": Option(
        "Number of worker processes on this machine; 0 computes in this process.", default=0
    ),
    "scheduler": Option(
        "Address of a Dask scheduler, such as tcp://host:8786.", kind=str, metavar="ADDRESS"
    ),
    "max_memory": Option("Peak memory of one worker, e.g. 4GB.", kind=str, metavar="BYTES"),
    "allow_gaps": Option(
        "Finish with 255 where a shard failed for good, such as an unreadable part of the scene.",
        default=False,
    ),
    "runtime": Option(
        "Runtime of the network: torch, openvino, or auto, the fastest with the mask of torch.",
        default="auto",
    ),
    "precision": Option(
        "Precision of the network: float32, bfloat16, float16 or int8. By default the runtime's "
        "best.",
        kind=str,
    ),
    "check_halo": Option(
        "Predict a sample of cores again with twice the halo, and report what changes.",
        default=False,
    ),
    "overwrite": Option("Replace the outputs of another job.", default=False),
    "keep_work": Option("Keep the finished shards after success.", default=False),
}
