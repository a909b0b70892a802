"""The reference runtime: PyTorch, on the CPU or a CUDA device, through one code path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from geoforest.arrays.predict import check_windows
from geoforest.compute.machine import reference_precision
from geoforest.errors import GeoforestError, InputError
from geoforest.models.unet import build_unet, shapes_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoforest.models.bundle import Bundle, ModelCard
    from geoforest.types import Array, Factor, Valid


class TorchPredictor:
    """Forest probabilities of raw windows; see :class:`geoforest.arrays.predict.Predictor`.

    Parameters
    ----------
    bundle
        The opened model bundle.
    device
        ``"cpu"``, ``"cuda"``, ``"cuda:1"`` ...
    threads
        Threads of the CPU kernels; 0 leaves torch's own choice. Fixed for a job, because the order
        of summation depends on it.
    autocast
        dtype of the network's arithmetic; by default
        :func:`geoforest.compute.machine.reference_precision`.

    Attributes
    ----------
    halvings
        How often a batch was too large for the device and was split in halves. Values may then
        differ in the last bits from those of whole batches.

    Raises
    ------
    BundleError
        When the weights do not fit the architecture on the card.
    InputError
        When the device is not available.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "cpu",
        threads: int = 0,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.card: ModelCard = bundle.card
        self.model_id = bundle.model_id
        self.device = _checked_device(device)
        self._threads = threads
        self._autocast = autocast or getattr(torch, reference_precision(device))
        network = load_network(bundle)
        network = network.to(self.device).to(memory_format=torch.channels_last)
        self._network = network
        self.halvings = 0

    def __call__(
        self,
        dn: Array,
        scale: Factor = 1e-4,
        offset: Factor = 0.0,
        valid: Valid | None = None,
    ) -> NDArray[np.float32]:
        """Compute the forest probabilities of a batch of windows.

        Parameters
        ----------
        dn
            ``(n, band, row, col)``, bands in the card's order, any numeric dtype; rows and
            columns multiples of 32.
        scale, offset
            Reflectance is ``dn * scale + offset``; scalars or one per band.
        valid
            bool ``(n, row, col)``; invalid pixels are replaced by the training mean.

        Returns
        -------
        numpy.ndarray
            float32 ``(n, row, col)``, 0 to 1.

        Raises
        ------
        InputError
            When ``dn`` is not ``(n, band, row, col)`` with the card's bands.
        GeoforestError
            When the device's memory does not hold one window.
        """
        check_windows(dn, self.card.bands)
        if self._threads and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            logits = self.forward(self.prepare(dn, scale, offset, valid))
            probability = torch.sigmoid(logits[:, 0].float() / self.card.temperature).cpu()
        return probability.numpy()

    @torch.inference_mode()
    def prepare(
        self, dn: Array, scale: Factor, offset: Factor, valid: Valid | None
    ) -> torch.Tensor:
        """Move a batch to the device and normalise it there; see :meth:`__call__`."""
        gain, bias = self.card.folded(scale, offset)
        # Stored integers are smaller to transfer than normalised float32.
        batch = self._to_device(dn).to(torch.float32)
        batch = batch.contiguous(memory_format=torch.channels_last)
        batch.mul_(self._column(gain)).add_(self._column(bias))
        if valid is not None:
            # Zero after normalisation is the training mean. NaN times zero is NaN: fill.
            batch.masked_fill_(~self._to_device(valid)[:, None], 0.0)
        return batch

    @torch.inference_mode()
    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Run the network alone: normalised ``(n, band, row, col)`` on its device to logits."""
        with torch.autocast(
            self.device.type,
            dtype=self._autocast,
            enabled=self._autocast is not torch.float32,
        ):
            try:
                logits: torch.Tensor = self._network(batch)
            except torch.OutOfMemoryError as error:
                if len(batch) == 1:
                    raise GeoforestError(
                        f"{self.device}: out of memory for one window of "
                        f"{batch.shape[2]} x {batch.shape[3]} px; take a smaller --window"
                    ) from error
            else:
                return logits
        # Not inside the except clause: its traceback would keep the tensors that must be freed.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.halvings += 1
        return torch.cat([self.forward(half) for half in batch.chunk(2)])

    def _to_device(self, array: Array) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def _column(self, values: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(values).to(self.device)[None, :, None, None]


def load_network(bundle: Bundle) -> torch.nn.Module:
    """Load a bundle's network with its weights, in float32 on the CPU, in inference mode.

    Raises
    ------
    BundleError
        When the weights do not fit the architecture on the card.
    """
    card = bundle.card
    network = build_unet(card.encoder, card.in_channels, card.architecture)
    # Before gigabytes are read that do not fit.
    bundle.check_shapes(shapes_of(network))
    network.load_state_dict(bundle.state_dict())
    return network.float().eval()


def default_batch_size(device: str) -> int:
    """Return the default number of windows per call.

    One on a CPU. On CUDA one per free GiB, rounded down to a power of two, 1 to 32; 8 when this
    process does not see the device, as with a cluster.
    """
    if not device.startswith("cuda"):
        return 1
    if not torch.cuda.is_available():
        return 8
    free, _ = torch.cuda.mem_get_info(torch.device(device))
    return int(min(32, 2 ** max(0, (free >> 30).bit_length() - 1)))


def best_device() -> str:
    """Return ``"cuda"`` when torch finds a CUDA device, otherwise ``"cpu"``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _checked_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device {name!r}: not a device that torch knows") from error
    if device.type not in {"cpu", "cuda"}:
        raise InputError(f"device {name!r}: cpu or cuda was wanted")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {name!r}: torch finds no CUDA device; use cpu")
    return device
