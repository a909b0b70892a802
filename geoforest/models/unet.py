"""The networks: U-Nets from segmentation-models-pytorch that return logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import segmentation_models_pytorch as smp
import torch
from torch import nn

from geoforest.errors import BundleError
from geoforest.models.architectures import Architecture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geoforest.models.weights import Shapes


class UnetFullResolution(nn.Module):
    """A U-Net with an additional skip connection from the image at full resolution.

    Encoders halve the image in their first layer, so ``smp.Unet`` has no features at full
    resolution, where forest edges are decided: at 10 m, four fifths of a plain U-Net's errors lie
    within one pixel of an edge. Here two convolutions run on the full image beside the encoder, and
    are joined to the decoder's output as in Ronneberger et al. 2015.

    Parameters
    ----------
    encoder
        Name in segmentation-models-pytorch.
    in_channels
        Bands of the input.
    """

    width = 16

    def __init__(self, encoder: str, in_channels: int) -> None:
        super().__init__()
        unet = smp.Unet(encoder, encoder_weights=None, in_channels=in_channels, classes=1)
        self.encoder, self.decoder = unet.encoder, unet.decoder
        decoded = unet.segmentation_head[0].in_channels
        self.skip = nn.Sequential(
            *_convolution(in_channels, self.width), *_convolution(self.width, self.width)
        )
        joined = decoded + self.width
        self.head = nn.Sequential(
            *_convolution(joined, joined), nn.Conv2d(joined, 1, kernel_size=3, padding=1)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute logits ``(n, 1, row, col)`` of float32 ``(n, in_channels, row, col)``."""
        return self.decode(images, self.encoder(images))

    def decode(self, images: torch.Tensor, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Compute logits ``(n, 1, row, col)`` from ``images`` and the encoder's features."""
        decoded = self.decoder(features)
        logits: torch.Tensor = self.head(torch.cat([decoded, self.skip(images)], dim=1))
        return logits


def decode(
    network: nn.Module, images: torch.Tensor, features: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Compute the logits of either architecture from ``images`` and its encoder's features."""
    if isinstance(network, UnetFullResolution):
        return network.decode(images, features)
    head, decoder = (network.get_submodule(part) for part in ("segmentation_head", "decoder"))
    logits: torch.Tensor = head(decoder(features))
    return logits


def encoder_of(network: nn.Module) -> nn.Module:
    """Return the encoder of either architecture."""
    return network.get_submodule("encoder")


def build_unet(encoder: str, in_channels: int, architecture: str = "Unet") -> torch.nn.Module:
    """Build a network with random weights.

    Parameters
    ----------
    encoder
        Name in segmentation-models-pytorch, such as ``se_resnet50``.
    in_channels
        Bands of the input.
    architecture
        ``Unet``, which is ``smp.Unet``, or :class:`UnetFullResolution`.

    Returns
    -------
    torch.nn.Module
        Maps float32 ``(n, in_channels, row, col)`` to logits ``(n, 1, row, col)``; rows and
        columns must be multiples of 32.

    Raises
    ------
    BundleError
        When the architecture or encoder is not known.
    """
    if architecture not in get_args(Architecture):
        raise BundleError(
            f"architecture {architecture!r}: not known; one of "
            f"{', '.join(get_args(Architecture))} was wanted"
        )
    try:
        if architecture == "UnetFullResolution":
            return UnetFullResolution(encoder, in_channels)
        unet: nn.Module = smp.Unet(
            encoder, encoder_weights=None, in_channels=in_channels, classes=1
        )
    except Exception as error:  # smp and timm raise many kinds
        raise BundleError(
            f"encoder {encoder!r}: not known to segmentation-models-pytorch, or of no use in a "
            f"U-Net ({' '.join(str(error).split())[:300]})"
        ) from error
    return unet


def network_shapes(encoder: str, in_channels: int, architecture: str) -> Shapes:
    """Return the shape of each tensor of a network, without making weights.

    Raises
    ------
    BundleError
        When the architecture or encoder is not known.
    """
    try:
        with torch.device("meta"):
            network = build_unet(encoder, in_channels, architecture)
    except BundleError:  # a few encoders need real numbers while they are built
        network = build_unet(encoder, in_channels, architecture)
    return shapes_of(network)


def shapes_of(network: nn.Module) -> Shapes:
    """Return the shape of each tensor of a network, by name."""
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def _convolution(in_channels: int, out_channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]
