"""The models that the reference system published, each as one state dict in a W&B artifact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from geoforest.models.importer import import_weights

if TYPE_CHECKING:
    from pathlib import Path

    from geoforest.models.bundle import Bundle

# The artifacts do not hold these values. They are the reference system's own: channel statistics
# of the training chips as published with it, and the threshold of best F1 on its validation chips.
BANDS: Final = ("B04", "B03", "B02", "B08")
MEAN: Final = (622.59, 683.14, 436.69, 2951.97)
STD: Final = (541.08, 368.43, 342.26, 633.47)
THRESHOLD: Final = 0.35


def import_published(weights: Path, out: Path, *, name: str, reference: str, digest: str) -> Bundle:
    """Convert a published state dict into a bundle.

    Parameters
    ----------
    weights
        The artifact's file; its name holds the encoder's, as in
        ``se_resnet50_batch4_lr1.0e-04_weights.pt``.
    out
        Bundle folder to write.
    name
        Name of the model.
    reference, digest
        Version and content hash of the artifact; written to the card.

    Raises
    ------
    BundleError
        When the file is not a state dict of such a network.
    """
    return import_weights(
        weights,
        out,
        bands=list(BANDS),
        mean=list(MEAN),
        std=list(STD),
        threshold=THRESHOLD,
        name=name,
        training_data=(
            "not stated in the artifact; by the reference system: Amazon chips of Bragagnolo et "
            "al. 2021, https://doi.org/10.5281/zenodo.4498086"
        ),
        notes=(
            f"Imported from {reference}, digest {digest}. Bands, mean and std (channel statistics "
            "of the training chips) and threshold (best F1 on the validation chips) are constants "
            "of the reference system, not of the artifact."
        ),
        origin={"reference": reference, "digest": digest},
    )
