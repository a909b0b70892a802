"""Runtime of a map: library, device, precision and batch size, chosen once per job."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from geoforest.compute.machine import reference_precision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geoforest.models.bundle import Bundle
    from geoforest.pipeline.settings import MapSettings


@dataclass(frozen=True)
class Runtime:
    """Runtime of a job: chosen once, then used by every worker and every later run.

    Attributes
    ----------
    name
        ``torch`` or ``openvino``.
    device
        ``cpu``, ``cuda`` or ``cuda:1``. The number of the CUDA device changes no result.
    precision
        Precision of the network's arithmetic: ``float32``, ``bfloat16``, ``float16`` or ``int8``.
    threads
        Threads of a worker's CPU kernels.
    batch_size
        Windows per call of the network.
    agreement
        Share of check pixels with the same mask as torch in float32; None when not measured.
    """

    name: str
    device: str
    precision: str
    threads: int
    batch_size: int
    agreement: float | None = None

    @classmethod
    def from_record(cls, document: Mapping[str, Any]) -> Runtime | None:
        """Read the runtime that ``job.json`` records; None when it records none."""
        try:
            record = document["runtime"]
            return cls(**{field.name: record[field.name] for field in fields(cls)})
        except (KeyError, TypeError):  # written by another version
            return None

    def answers(self, settings: MapSettings) -> bool:
        """Return whether this runtime is one that the settings ask for, or leave open.

        What ``auto`` would choose today does not count: it may differ from the day of the map.
        """
        # The runtime torch alone asks for its reference, see choose_runtime.
        reference = reference_precision(self.device) if settings.runtime == "torch" else None
        return (
            settings.runtime in ("auto", self.name)
            and (settings.precision or reference) in (None, self.precision)
            and settings.device.partition(":")[0] in ("auto", self.device.partition(":")[0])
            and settings.batch_size in (None, self.batch_size)
        )


def resolve_runtime(
    settings: MapSettings, bundle: Bundle, threads: int, *, measured: bool = True
) -> Runtime:
    """Choose what the settings leave open about the runtime, once for all workers.

    Parameters
    ----------
    settings
        What the user asked for.
    bundle
        The opened model.
    threads
        Threads of the CPU kernels of each worker.
    measured
        False when the caller brings its own predictor: then nothing is timed or compared.

    Raises
    ------
    InputError
        When this machine lacks what was asked for, or its mask differs too much from torch's.
    """
    device = settings.device
    if device == "auto" and settings.runtime == "openvino":
        device = "cpu"
    elif device == "auto":
        from geoforest.models.torch_runtime import best_device

        device = best_device()
    batch_size = settings.batch_size
    if batch_size is None:
        from geoforest.models.torch_runtime import default_batch_size

        batch_size = default_batch_size(device)
    if not measured:
        name = "torch" if settings.runtime == "auto" else settings.runtime
        precision = settings.precision or reference_precision(device)
        return Runtime(name, device, precision, threads, batch_size)
    from geoforest.models.runtimes import choose_runtime

    choice = choose_runtime(
        bundle,
        runtime=settings.runtime,
        precision=settings.precision,
        device=device,
        threads=threads,
        window=settings.window or bundle.card.window,
        batch_size=batch_size,
    )
    return Runtime(choice.runtime, device, choice.precision, threads, batch_size, choice.agreement)
