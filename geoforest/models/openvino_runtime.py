"""The OpenVINO runtime: two to four times torch's speed on a CPU, also in lower precisions.

A bundle's network is converted once (and quantised, for int8), and stored as OpenVINO's own files
in geoforest's cache; such files are never read from anywhere else.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from geoforest.arrays.predict import check_windows
from geoforest.errors import BundleError, InputError
from geoforest.io.cache import installed, kept_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from geoforest.models.bundle import Bundle, ModelCard
    from geoforest.types import Array, Factor, Valid

# OpenVINO's own words for a processor's abilities and for the precision to use.
_CAPABILITY: Final = {"float32": "FP32", "bfloat16": "BF16", "float16": "FP16", "int8": "INT8"}
_HINT: Final = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
# Part of every cache key: increase it when conversion or quantisation changes.
RECIPE: Final = 1
_MODEL_NAME: Final = "model.xml"


class OpenVinoPredictor:
    """Forest probabilities of raw windows; see :class:`geoforest.arrays.predict.Predictor`.

    The same processor, threads, batch shape and versions give the same result. Another kind of
    processor may differ in the last bits, and with int8 by more, because each machine computes its
    own quantisation.

    Parameters
    ----------
    bundle
        The opened model bundle.
    precision
        ``float32``; ``bfloat16`` or ``float16`` where the processor computes with them; ``int8``
        by post-training quantisation on synthetic chips, with sensitive layers in
        :func:`best_precision`. See :func:`available_precisions`.
    threads
        Threads of the kernels; 0 leaves OpenVINO's own choice.

    Raises
    ------
    InputError
        When OpenVINO is not installed, or the processor lacks the precision.
    """

    def __init__(self, bundle: Bundle, *, precision: str, threads: int = 0) -> None:
        self.card: ModelCard = bundle.card
        possible = available_precisions()
        if precision not in possible:
            raise InputError(
                f"precision {precision} with OpenVINO: this processor has {', '.join(possible)}"
            )
        self._bundle = bundle
        self._precision = precision
        self._threads = threads
        self._shape: tuple[int, ...] = ()
        self._request: Any = None

    def __call__(
        self,
        dn: Array,
        scale: Factor = 1e-4,
        offset: Factor = 0.0,
        valid: Valid | None = None,
    ) -> NDArray[np.float32]:
        """Compute the probabilities of a batch of windows, as :meth:`TorchPredictor.__call__`.

        The first call, and every change of shape, compiles the network.

        Raises
        ------
        InputError
            When ``dn`` is not ``(n, band, row, col)`` with the card's bands.
        BundleError
            When OpenVINO cannot convert the network.
        OutputError
            When the cache cannot be written to.
        """
        check_windows(dn, self.card.bands)
        batch = self.prepare(dn, scale, offset, valid)
        probability = _sigmoid(self.forward(batch)[:, 0], self.card.temperature)
        if np.issubdtype(dn.dtype, np.inexact):
            # OpenVINO's kernels lose a NaN at a ReLU, but an observed NaN must not go unnoticed.
            probability[~np.isfinite(batch).all(axis=(1, 2, 3))] = np.nan
        return probability

    def prepare(
        self, dn: Array, scale: Factor, offset: Factor, valid: Valid | None
    ) -> NDArray[np.float32]:
        """Normalise a batch to float32 of the same shape; see :meth:`__call__`."""
        gain, bias = self.card.folded(scale, offset)
        batch = np.empty(dn.shape, np.float32)
        with np.errstate(all="ignore"):
            np.multiply(dn, gain[:, None, None], out=batch, casting="same_kind")
            np.add(batch, bias[:, None, None], out=batch)
            if valid is not None:
                # Zero after normalisation is the training mean. NaN times zero is NaN: fill.
                np.copyto(batch, 0, where=~valid[:, None])
        return batch

    def forward(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network alone: normalised ``(n, band, row, col)`` to logits.

        The logits are valid until the next call.
        """
        request = self._request_for(batch.shape)
        request.get_input_tensor().data[:] = batch
        request.infer()
        logits: NDArray[np.float32] = request.get_output_tensor().data
        return logits

    def _request_for(self, shape: tuple[int, ...]) -> Any:
        if shape != self._shape:
            self._request = self._compile(shape).create_infer_request()
            self._shape = shape
        return self._request

    def _compile(self, shape: Sequence[int]) -> Any:
        quantised = self._precision == "int8"
        path = _cached_model(self._bundle, shape[2:], quantised=quantised)
        model = _core().read_model(path)
        model.reshape(list(shape))
        precision = best_precision() if quantised else self._precision
        return _compile_model(model, precision, self._threads)


def _sigmoid(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    with np.errstate(all="ignore"):
        probability = np.multiply(logits, np.float32(-1 / temperature))
        np.exp(probability, out=probability)
        probability += 1
        return np.reciprocal(probability, out=probability)


def _compile_model(model: Any, precision: str, threads: int) -> Any:
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        # Pinning would put the threads of all processes on the same cores.
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": _HINT[precision],
    }
    return _core().compile_model(model, "CPU", options)


_NEEDS_EXTRA: Final = 'runtime openvino: pip install "geoforest[openvino]"'


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which would report each import to its developers.

    Raises
    ------
    InputError
        When it is not installed.
    """
    try:
        with _without_telemetry():
            import openvino
    except ImportError as error:
        raise InputError(_NEEDS_EXTRA) from error
    if not hasattr(openvino, "Core"):
        # `python -m` takes a folder of that name, such as one of exported models, for the package.
        raise InputError(f"{_NEEDS_EXTRA} ({openvino.__path__[0]} is not that package)")
    return openvino


@cache
def _core() -> Any:
    """Return the one OpenVINO core of this process, which is never deleted.

    Deleting the last core unloads OpenVINO's libraries; threads that still have destructors in
    them would later crash the process.
    """
    return import_openvino().Core()


def available_precisions() -> tuple[str, ...]:
    """List the precisions that OpenVINO has for this processor, float32 first."""
    capabilities = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return tuple(name for name, word in _CAPABILITY.items() if word in capabilities)


def best_precision() -> str:
    """Return the fastest floating-point precision of this processor."""
    return next(
        name for name in ("bfloat16", "float16", "float32") if name in available_precisions()
    )


def _cached_model(bundle: Bundle, window: Sequence[int], *, quantised: bool) -> Path:
    """Return the path of a network in OpenVINO's format, converted on first use."""
    key = _cache_key(bundle, window, quantised=quantised)

    def make(folder: Path) -> Sequence[str]:
        if quantised:
            model = _quantise(_cached_model(bundle, window, quantised=False), bundle.card)
        else:
            model = _convert(bundle, window)
        folder.mkdir()
        try:
            import_openvino().save_model(model, folder / _MODEL_NAME, compress_to_fp16=False)
        except RuntimeError as error:  # from a C++ stream, for example on a full disk
            raise OSError(str(error)) from error
        return key

    return kept_folder("openvino", key, make) / _MODEL_NAME


def _cache_key(bundle: Bundle, window: Sequence[int], *, quantised: bool) -> list[str]:
    """List everything that the converted network depends on."""
    card = bundle.card
    words = [str(RECIPE), bundle.sha256, card.architecture, card.encoder, str(card.in_channels)]
    words += [str(side) for side in window]
    packages = ["openvino", "torch", "segmentation-models-pytorch"]
    if quantised:
        words += ["int8", str((card.bands, card.mean, card.std, card.reflectance_scale))]
        words += [str((card.threshold, card.temperature)), best_precision()]
        packages.append("nncf")
    return [*words, *installed(packages)]


def _convert(bundle: Bundle, window: Sequence[int]) -> Any:
    """Convert a bundle's network to OpenVINO: normalised bands to logits, any batch size."""
    import torch

    from geoforest.models.torch_runtime import load_network

    openvino = import_openvino()
    network = load_network(bundle)
    example = torch.zeros(1, bundle.card.in_channels, *window)
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            # torch warns of branches on shapes, which are fixed here.
            warnings.simplefilter("ignore")
            # OpenVINO's own tracing would run the network twice more to compare.
            traced = torch.jit.trace(  # type: ignore[no-untyped-call]  # torch does not type it
                network, example, check_trace=False
            )
            return openvino.convert_model(traced, example_input=example)
    except Exception as error:  # OpenVINO raises many kinds
        reason = " ".join(str(error).split())[:300]
        raise BundleError(
            f"{bundle.path}: OpenVINO cannot convert {bundle.card.encoder!r} ({reason})"
        ) from error


def _quantise(source: Path, card: ModelCard) -> Any:
    with _without_telemetry(), _without_output():
        try:
            import nncf
        except ImportError as error:
            raise InputError('precision int8: pip install "geoforest[openvino]"') from error
        from geoforest.models.quantisation import quantise_int8

        return quantise_int8(nncf, _core().read_model(source), card, _infer)


def _infer(model: Any, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute logits ``(n, row, col)`` of normalised images ``(n, band, row, col)`` one by one."""
    sized = model.clone()
    sized.reshape([1, *images.shape[1:]])
    request = _compile_model(sized, best_precision(), threads=0).create_infer_request()
    return np.stack([request.infer([image[None]])[0][0, 0] for image in images])


@contextlib.contextmanager
def _without_telemetry() -> Iterator[None]:
    """Hide the package ``openvino_telemetry``, which OpenVINO and NNCF treat as optional."""
    name = "openvino_telemetry"
    absent = name not in sys.modules
    if absent:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if absent:
            sys.modules.pop(name, None)


@contextlib.contextmanager
def _without_output() -> Iterator[None]:
    """Keep progress bars off standard output, which belongs to ``--json``."""
    noisy = logging.getLogger("torch.utils.cpp_extension")
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        noisy.setLevel(level)
