"""The shard store: one file per finished shard, with a checksum that proves it whole."""

from __future__ import annotations

import hashlib
import io
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio._err import CPLE_BaseError  # GDAL's own errors, which reading lets through
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from geoforest.arrays.reflectance import BandStatistics
from geoforest.arrays.validity import ValueCounts
from geoforest.errors import WriteError
from geoforest.io.gdal import pinned
from geoforest.io.names import JOB_NAME, PROGRESS_NAME
from geoforest.io.raster import open_raster
from geoforest.io.storage import read_json, write_durably
from geoforest.types import NO_OBSERVATION, Array, StoredProbability, Valid

if TYPE_CHECKING:
    from pathlib import Path

    from geoforest.arrays.georef import GeoRef
    from geoforest.arrays.grid import Shard


_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Receipt:
    """Report of a finished shard: all that a summary needs, without pixels.

    Attributes
    ----------
    shard
        Name of the shard.
    n_windows
        Windows predicted.
    inside_px
        Pixels inside the area of interest; all pixels without one.
    histogram
        Number of pixels per stored value, 256 entries.
    cloud_px
        Observed pixels inside the area of interest that the cloud mask removes.
    statistics
        Statistics of the digital numbers over observed pixels inside the area of interest.
    seconds
        Seconds per stage: read, predict, stitch, write.
    peak_memory_mb
        Peak resident memory of the worker process so far, MB.
    halved
        Whether a device ran out of memory, so that batches were halved.
    values
        Counts of pixels inside the area of interest by what their values are.
    """

    shard: str
    n_windows: int
    inside_px: int
    histogram: list[int]
    cloud_px: int = 0
    statistics: BandStatistics = field(default_factory=BandStatistics)
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory_mb: float = 0.0
    halved: bool = False
    values: ValueCounts = field(default_factory=ValueCounts)

    def to_json(self) -> str:
        """Return compact JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Receipt:
        """Parse the output of :meth:`to_json`."""
        raw = json.loads(text)
        statistics, values = BandStatistics(**raw["statistics"]), ValueCounts(**raw["values"])
        return cls(**{**raw, "statistics": statistics, "values": values})


@dataclass(frozen=True)
class ShardStore:
    """A work folder holding one file per finished shard.

    Shards are small GeoTIFFs of stored probability; the tags hold the job fingerprint, the
    receipt and a checksum over all three. The object holds only a path and a hash, so that it can
    be sent to workers.
    """

    folder: Path
    fingerprint: str

    def path(self, shard: Shard) -> Path:
        """Return the path of a shard, finished or not."""
        return self.folder / "shards" / f"{shard.name}.tif"

    def write(
        self,
        shard: Shard,
        stored: StoredProbability,
        receipt: Receipt,
        *,
        georef: GeoRef,
    ) -> None:
        """Commit a shard: write it under a temporary name, flush it, rename it.

        ``georef`` is the scene's; it places the shard on a map, so that an unfinished run can be
        looked at.

        Raises
        ------
        WriteError
            When the disk is full or cannot be written to.
        """
        text = receipt.to_json()
        tags = {
            "FINGERPRINT": self.fingerprint,
            "RECEIPT": text,
            "CHECKSUM": self._checksum(shard, stored, text),
        }
        with pinned(), MemoryFile() as memory:
            with memory.open(
                driver="GTiff",
                height=stored.shape[0],
                width=stored.shape[1],
                count=1,
                dtype="uint8",
                nodata=NO_OBSERVATION,
                compress="deflate",
                zlevel=1,
                crs=georef.crs,
                transform=georef.window(shard.extent).transform,
            ) as target:
                target.write(stored, 1)
                target.update_tags(**tags)
            try:
                write_durably(self.path(shard), memory.read())
            except OSError as error:
                raise WriteError(
                    f"{self.path(shard)}: cannot be written ({error.strerror or error})"
                ) from error

    def write_preview(self, shard: Shard, dn: Array, valid: Valid) -> None:
        """Store decimated pixels of a shard, so that pictures need not read the scene again.

        Failures are ignored: pictures can read the scene.
        """
        content = io.BytesIO()
        np.savez(content, dn=dn, valid=valid)
        data = content.getvalue()
        with suppress(OSError):
            path = self.path(shard).with_suffix(".npz")
            write_durably(path, data + hashlib.sha256(data).digest())

    def load_preview(self, shard: Shard) -> tuple[Array, Valid] | None:
        """Load what :meth:`write_preview` stored, or None where it is absent or damaged."""
        with suppress(OSError):
            content = self.path(shard).with_suffix(".npz").read_bytes()
            data, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
            if hashlib.sha256(data).digest() == digest:
                with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                    return arrays["dn"], arrays["valid"]
        return None

    def load(self, shard: Shard) -> tuple[StoredProbability, Receipt] | None:
        """Load pixels and receipt of a finished shard; None when it is absent or damaged."""
        path = self.path(shard)
        if not path.exists():
            return None
        try:
            # A damaged georeference does not matter here: the checksum decides.
            with open_raster(path) as source:
                # Before it is read: a damaged header may promise any number of pixels.
                if source.shape != shard.extent.shape or source.dtypes != ("uint8",):
                    return None
                stored, tags = source.read(1), source.tags()
            receipt = Receipt.from_json(tags["RECEIPT"])
        except (RasterioError, CPLE_BaseError, KeyError, ValueError, TypeError):
            return None
        if tags.get("FINGERPRINT") != self.fingerprint or tags.get("CHECKSUM") != self._checksum(
            shard, stored, tags["RECEIPT"]
        ):
            return None
        return stored, receipt

    def _checksum(self, shard: Shard, stored: StoredProbability, receipt: str) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for part in (self.fingerprint, repr(shard), receipt):
            digest.update(part.encode())
            digest.update(b"\0")
        digest.update(np.ascontiguousarray(stored).data)
        return digest.hexdigest()

    def read_job(self) -> dict[str, Any] | None:
        """Read the record of the job that the folder belongs to, or None."""
        return read_json(self.folder / JOB_NAME)

    def write_job(self, document: dict[str, Any]) -> None:
        """Write the record of the job that the folder belongs to."""
        write_durably(self.folder / JOB_NAME, json.dumps(document, indent=2).encode())

    def write_progress(self, document: dict[str, Any]) -> None:
        """Write the progress that ``geoforest status`` reads; failures are ignored."""
        path = self.folder / PROGRESS_NAME
        partial = path.with_name(f".{path.name}.partial")
        with suppress(OSError):
            partial.write_text(json.dumps(document), encoding="utf-8")
            partial.replace(path)
