"""The network: a U-Net from segmentation-models-pytorch, giving logits."""

from __future__ import annotations

import torch

from geoforest.errors import BundleError


def build_unet(encoder: str, in_channels: int) -> torch.nn.Module:
    """Build a U-Net with random weights.

    Parameters
    ----------
    encoder
        Name in segmentation-models-pytorch, such as ``se_resnet50``.
    in_channels
        Bands of the input.

    Returns
    -------
    torch.nn.Module
        ``(n, in_channels, row, col)`` float32 to logits ``(n, 1, row, col)``.

    Raises
    ------
    BundleError
        When the library has no such encoder.
    """
    import segmentation_models_pytorch as smp

    try:
        return smp.Unet(encoder, encoder_weights=None, in_channels=in_channels, classes=1)
    except (KeyError, RuntimeError) as error:
        raise BundleError(
            f"encoder {encoder!r}: not known to segmentation-models-pytorch ({error})"
        ) from error
