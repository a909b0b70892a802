"""Labelled chips, one asset per split, and band statistics of the training split."""

from pathlib import Path

import dagster as dg

from geoforest import FOREST
from geoforest.scenes.synthetic import write_chips
from geoforest.train.chips import (
    channel_statistics as statistics_of,
)
from geoforest.train.chips import (
    read_split,
    refuse_labels,
    write_statistics,
)
from geoforest.train.figures import label_figure
from workflows.metadata import picture, table
from workflows.settings import BANDS, Settings
from workflows.steps import Materialized, step

GROUP = "chips"
# Seed and number of the demonstration's chips; seeds this far apart share no ground.
_DEMO = {"train": (101, 12), "validation": (102, 4), "test": (103, 4)}


def _labelled(split: str) -> dg.AssetsDefinition:
    @step(
        name=f"{split}_chips",
        group_name=GROUP,
        description=f"Labelled chips of {split}: pairs of image and mask, read and checked.",
    )
    def chips(settings: Settings) -> Materialized:
        if not settings.chips:
            seed, count = _DEMO[split]
            folder = Path(settings.chips_location) / split
            write_chips(folder, seed=seed, n_chips=count, side=settings.demo_chip_px)
        read = read_split(settings.chips_location, split, n_bands=len(BANDS))
        refuse_labels(settings.chips_location, split, read, one_class_will_do=split == "test")
        first = read[0]
        return dg.MaterializeResult(
            metadata={
                "location": f"{settings.chips_location}/{split}",
                "synthetic": not settings.chips,
                "chips": len(read),
                "labelled_px": sum(int(chip.labelled.sum()) for chip in read),
                "forest_px": sum(int((chip.mask == FOREST).sum()) for chip in read),
                "first": picture(label_figure(first.name, first.dn, first.mask, BANDS), first.name),
            }
        )

    return chips


train_chips, validation_chips, test_chips = map(_labelled, _DEMO)


@step(group_name=GROUP, deps=[train_chips])
def channel_statistics(settings: Settings) -> Materialized:
    """Mean and standard deviation per band, over the labelled pixels of train."""
    statistics = statistics_of(read_split(settings.chips_location, "train", n_bands=len(BANDS)))
    settings.models.mkdir(parents=True, exist_ok=True)
    path = settings.models / "channel_statistics.csv"
    write_statistics(path, BANDS, statistics)
    rows = [
        {"band": band, "mean": float(mean), "std": float(std)}
        for band, mean, std in zip(BANDS, statistics.mean, statistics.std, strict=True)
    ]
    return dg.MaterializeResult(
        metadata={"path": dg.MetadataValue.path(path), "statistics": table(rows)}
    )


@step(group_name="figures", deps=[train_chips, validation_chips, test_chips])
def ndvi_figures(settings: Settings) -> Materialized:
    """Each labelled chip in true colour, as NDVI, and with its labels."""
    folder = settings.folder / "figures" / "ndvi"
    for split in _DEMO:
        (folder / split).mkdir(parents=True, exist_ok=True)
        for chip in read_split(settings.chips_location, split, n_bands=len(BANDS)):
            drawn = label_figure(chip.name, chip.dn, chip.mask, BANDS)
            (folder / split / f"{chip.name}.png").write_bytes(drawn)
    return dg.MaterializeResult(
        metadata={"path": dg.MetadataValue.path(folder), "last": picture(drawn, chip.name)}
    )
