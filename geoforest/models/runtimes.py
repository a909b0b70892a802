"""The choice of a job's runtime and precision: the fastest that agrees with the reference."""

from __future__ import annotations

import platform
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from geoforest.compute.machine import computes_bfloat16, keep_freed_memory, reference_precision
from geoforest.errors import InputError
from geoforest.io.cache import cache_digest, cache_folder, installed
from geoforest.io.storage import read_json, write_json

if TYPE_CHECKING:
    from pathlib import Path

    from geoforest.arrays.predict import Predictor
    from geoforest.models.agreement import Chips
    from geoforest.models.bundle import Bundle
    from geoforest.types import Mask

MapPrecision = Literal["float32", "bfloat16", "float16", "int8"]
MapRuntime = Literal["auto", "torch", "openvino"]

AUTO_AGREEMENT: Final = 0.999
NAMED_AGREEMENT: Final = 0.995
# Precisions that are never chosen automatically.
_ONLY_BY_NAME = {"int8"}
_REFERENCE = ("torch", "float32")
_PACKAGES = ("torch", "openvino", "nncf", "segmentation-models-pytorch")
_TRIALS = 3
_FORMAT_VERSION = 1


@dataclass(frozen=True)
class Choice:
    """A runtime and precision, with the measurements behind the choice.

    Attributes
    ----------
    runtime
        ``torch`` or ``openvino``.
    precision
        Precision of the network's arithmetic, such as ``float32``.
    agreement
        Share of check pixels, 0 to 1, with the same mask as torch in float32; None when not
        measured (float16 on CUDA).
    windows_per_second
        Speed on the check chips; None when nothing was measured.
    """

    runtime: str
    precision: str
    agreement: float | None
    windows_per_second: float | None = None


def choose_runtime(
    bundle: Bundle,
    *,
    runtime: MapRuntime = "auto",
    precision: MapPrecision | None = None,
    device: str = "cpu",
    threads: int = 0,
    window: int | None = None,
    batch_size: int = 1,
) -> Choice:
    """Choose the runtime and precision of a job.

    ``auto`` takes the fastest runtime whose masks agree with torch in float32 on 99.9 % of the
    check pixels, and never int8. A precision given by name needs 99.5 %. The runtime torch
    without a precision is the reference, float32 or on CUDA float16, and needs no measurement.
    Measurements are cached, so that every scene on a machine gets the same choice.

    Parameters
    ----------
    bundle
        The model.
    runtime
        ``auto``, ``torch`` or ``openvino``.
    precision
        ``float32``, ``bfloat16``, ``float16``, ``int8``, or None for the fastest allowed.
    device
        ``cpu``, ``cuda`` or ``cuda:1``.
    threads
        Threads of CPU kernels; 0 leaves the runtime's own choice.
    window, batch_size
        Window side, px, and batch size of the job; by default the card's window and 1.

    Raises
    ------
    InputError
        When this machine cannot run the combination, or it agrees too little with the reference.
    """
    candidates = _candidates(runtime, precision, device)
    if candidates == [_REFERENCE]:
        return Choice(*_REFERENCE, agreement=1.0)
    if candidates == [("torch", reference_precision(device))]:
        return Choice(*candidates[0], agreement=None)
    window = window or bundle.card.window
    kept = (
        cache_folder()
        / "runtimes"
        / _digest(bundle, candidates, precision, device, threads, window, batch_size)
    )
    if (found := _read_choice(kept)) is not None:
        return found
    # Measure in a thread that ends. As long as a thread lives that ran such kernels, libgomp adds
    # its OpenMP threads to those of the predicting thread, finds more threads than cores, and puts
    # them to sleep at every barrier.
    with ThreadPoolExecutor(1) as thread:
        chosen = thread.submit(
            _choose_fastest,
            bundle,
            candidates,
            gate=NAMED_AGREEMENT if precision else AUTO_AGREEMENT,
            device=device,
            threads=threads,
            window=window,
            batch_size=batch_size,
        ).result()
    with suppress(OSError):  # without a cache the next job measures again
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, asdict(chosen))
    return chosen


def load_predictor(
    bundle: Bundle, *, runtime: str, precision: str, device: str = "cpu", threads: int = 0
) -> Predictor:
    """Load a bundle into a runtime, ready to predict.

    Raises
    ------
    InputError
        When the bundle, the device or the runtime cannot be used here.
    """
    if runtime == "openvino":
        from geoforest.models.openvino_runtime import OpenVinoPredictor

        return OpenVinoPredictor(bundle, precision=precision, threads=threads)
    import torch

    from geoforest.models.torch_runtime import TorchPredictor

    if device == "cpu":
        keep_freed_memory()
    autocast = getattr(torch, precision)
    return TorchPredictor(bundle, device=device, threads=threads, autocast=autocast)


def _candidates(
    runtime: MapRuntime, precision: MapPrecision | None, device: str
) -> list[tuple[str, str]]:
    """List the (runtime, precision) pairs to choose from; never empty."""
    on_cuda = device.startswith("cuda")
    if runtime == "openvino" and on_cuda:
        raise InputError(f"runtime openvino computes on the CPU, not on {device}")
    if precision is None and (on_cuda or runtime == "torch"):
        return [("torch", reference_precision(device))]
    possible = _possible_pairs(runtime, device)
    if precision is None:
        return [pair for pair in possible if pair[1] not in _ONLY_BY_NAME]
    chosen = [pair for pair in possible if pair[1] == precision]
    if not chosen:
        hint = ""
        if precision == "int8" and runtime == "auto" and not on_cuda and not _has_openvino():
            hint = '; int8 needs OpenVINO: pip install "geoforest[openvino]"'
        raise InputError(
            f"precision {precision} with runtime {runtime} on {device}: not possible on this "
            f"machine, which computes {', '.join(sorted({name for _, name in possible}))}{hint}"
        )
    return chosen


def _possible_pairs(runtime: MapRuntime, device: str) -> list[tuple[str, str]]:
    """List all (runtime, precision) pairs that this machine can run."""
    on_cuda = device.startswith("cuda")
    possible: list[tuple[str, str]] = []
    if runtime != "openvino":
        possible += [("torch", name) for name in _torch_precisions(on_cuda=on_cuda)]
    if runtime != "torch" and not on_cuda and (runtime == "openvino" or _has_openvino()):
        from geoforest.models.openvino_runtime import available_precisions

        possible += [("openvino", name) for name in available_precisions()]
    return possible


def _torch_precisions(*, on_cuda: bool) -> tuple[str, ...]:
    if on_cuda:
        return ("float32", "float16", "bfloat16")
    # Without bfloat16 instructions torch emulates them, slower than float32.
    return ("float32", "bfloat16") if computes_bfloat16() else ("float32",)


def _has_openvino() -> bool:
    from geoforest.models.openvino_runtime import import_openvino

    try:
        import_openvino()
    except InputError:
        return False
    return True


def _choose_fastest(
    bundle: Bundle,
    candidates: list[tuple[str, str]],
    *,
    gate: float,
    device: str,
    threads: int,
    window: int,
    batch_size: int,
) -> Choice:
    """Time all candidates, and return the fastest whose agreement is at least ``gate``, 0 to 1.

    Only one predictor is in memory at a time, so some are loaded twice.
    """
    from geoforest.models.agreement import (
        CHECK_SEED,
        make_model_chips,
        predicted_masks,
        same_share,
    )

    chips = make_model_chips(bundle.card, window, seed=CHECK_SEED)

    def loaded(pair: tuple[str, str]) -> Predictor:
        return load_predictor(
            bundle, runtime=pair[0], precision=pair[1], device=device, threads=threads
        )

    def masks(pair: tuple[str, str]) -> Mask:
        return predicted_masks(loaded(pair), chips, bundle.card.threshold, batch_size)

    rates: dict[tuple[str, str], float] = {}
    errors: list[InputError] = []
    for pair in candidates:
        try:
            rates[pair] = _windows_per_second(loaded(pair), chips, batch_size)
        except InputError as error:
            # One runtime may fail to load a network while another one succeeds.
            errors.append(error)
    if not rates:
        raise errors[0]
    reference: Mask | None = None
    refused = []
    for pair in sorted(rates, key=rates.__getitem__, reverse=True):
        if pair == _REFERENCE:
            return Choice(*pair, 1.0, rates[pair])
        if reference is None:
            reference = masks(_REFERENCE)
        share = same_share(reference, masks(pair))
        if share >= gate:
            return Choice(*pair, round(share, 6), rates[pair])
        refused.append(f"{' '.join(pair)} {100 * share:.2f} %")
    raise InputError(
        f"{bundle.model_id}: too few check pixels get the mask of torch float32: "
        f"{', '.join(refused)}; at least {100 * gate:g} % was wanted"
    )


def _windows_per_second(predictor: Predictor, chips: Chips, batch_size: int) -> float:
    """Measure the speed of a predictor: the fastest of three calls after one to warm up."""
    seconds = []
    batch = np.resize(np.arange(len(chips)), batch_size)
    for _ in range(1 + _TRIALS):
        start = time.perf_counter()
        predictor(chips.dn[batch], scale=chips.scale, valid=chips.valid[batch])
        seconds.append(time.perf_counter() - start)
    return round(batch_size / min(seconds[1:]), 3)


def _read_choice(path: Path) -> Choice | None:
    try:
        return Choice(**(read_json(path) or {}))
    except TypeError:  # no file, or fields of another version
        return None


def _digest(bundle: Bundle, *settings: object) -> str:
    from geoforest.models.openvino_runtime import RECIPE

    return cache_digest(
        (
            str(_FORMAT_VERSION),
            str(RECIPE),
            bundle.sha256,
            bundle.card.model_dump_json(),
            *map(repr, settings),
            *installed(_PACKAGES),
            platform.node(),
            platform.machine(),
        )
    )
