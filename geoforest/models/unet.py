"""The networks: U-Nets from segmentation-models-pytorch, giving logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import segmentation_models_pytorch as smp
import torch
from torch import nn

from geoforest.errors import BundleError
from geoforest.models.bundle import Architecture

if TYPE_CHECKING:
    from collections.abc import Sequence


class UnetFullResolution(nn.Module):
    """A U-Net whose last skip connection comes from the image itself, at full resolution.

    Encoders halve the image in their first layer, so that ``smp.Unet`` sees single pixels only
    through a stride of two. At 10 m that is where forest edges are decided: four fifths of a
    plain U-Net's errors lie within a pixel of them. Two convolutions at full resolution beside
    the encoder, joined to the decoder's output as in Ronneberger et al. 2015, bring them back.

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
        """``(n, in_channels, row, col)`` float32 to logits ``(n, 1, row, col)``."""
        return self.decode(images, self.encoder(images))

    def decode(self, images: torch.Tensor, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Logits from the encoder's features of ``images``."""
        decoded = self.decoder(features)
        logits: torch.Tensor = self.head(torch.cat([decoded, self.skip(images)], dim=1))
        return logits


def decode(
    network: nn.Module, images: torch.Tensor, features: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Logits of either architecture from its encoder's features of ``images``."""
    if isinstance(network, UnetFullResolution):
        return network.decode(images, features)
    head, decoder = (network.get_submodule(part) for part in ("segmentation_head", "decoder"))
    logits: torch.Tensor = head(decoder(features))
    return logits


def encoder_of(network: nn.Module) -> nn.Module:
    """Give the encoder of either architecture."""
    return network.get_submodule("encoder")


def build_unet(
    encoder: str, in_channels: int, architecture: Architecture = "Unet"
) -> torch.nn.Module:
    """Build a network with random weights.

    Parameters
    ----------
    encoder
        Name in segmentation-models-pytorch, such as ``se_resnet50``.
    in_channels
        Bands of the input.
    architecture
        ``Unet``, as the library has it, or :class:`UnetFullResolution`.

    Returns
    -------
    torch.nn.Module
        ``(n, in_channels, row, col)`` float32 to logits ``(n, 1, row, col)``; rows and columns
        are multiples of 32.

    Raises
    ------
    BundleError
        When there is no such architecture or encoder.
    """
    if architecture not in get_args(Architecture):
        raise BundleError(
            f"architecture {architecture!r}: not known; one of "
            f"{', '.join(get_args(Architecture))} was wanted"
        )
    try:
        if architecture == "UnetFullResolution":
            return UnetFullResolution(encoder, in_channels)
        return smp.Unet(encoder, encoder_weights=None, in_channels=in_channels, classes=1)
    except Exception as error:  # smp and timm raise many kinds
        raise BundleError(
            f"encoder {encoder!r}: not known to segmentation-models-pytorch, or of no use in a "
            f"U-Net ({' '.join(str(error).split())[:300]})"
        ) from error


def _convolution(in_channels: int, out_channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]
