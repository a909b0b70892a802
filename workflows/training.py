"""A model's life: trained, the best promoted, its threshold chosen, judged, drawn."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from geoforest.io.storage import read_json, write_json
from geoforest.models.registry import open_model, push_model
from geoforest.train.evaluation import METRICS_NAME, evaluate_model
from geoforest.train.figures import loss_figure
from geoforest.train.fit import lowest_loss, train_model
from geoforest.train.trials import best_bundle, rank_bundles
from workflows.chips import channel_statistics, test_chips, train_chips, validation_chips
from workflows.metadata import picture, scores, table
from workflows.settings import Settings
from workflows.steps import GPU, step

GROUP = "model"


def _listed(name: str, default: str) -> list[str]:
    return [word.strip() for word in os.environ.get(name, default).split(",")]


# Their own networks begin at random: nothing has to be fetched.
MODELS = dg.MultiPartitionsDefinition(
    {
        "encoder": dg.StaticPartitionsDefinition(
            _listed("GEOFOREST_ENCODERS", "resnet18,mobilenet_v2")
        ),
        "batch_size": dg.StaticPartitionsDefinition(_listed("GEOFOREST_BATCH_SIZES", "2,4")),
    }
)


class TrainingConfig(dg.Config):
    """Settings of a training that the partitions do not vary; see ``geoforest train --help``."""

    epochs: int = 10
    learning_rate: float = 1e-3
    encoder_weights: str = "none"
    freeze_encoder: bool = False
    patience: int = 5
    seed: int = 0


@step(
    group_name=GROUP,
    partitions_def=MODELS,
    deps=[train_chips, validation_chips, channel_statistics],
    **GPU,
)
def trained_model(
    context: dg.AssetExecutionContext, settings: Settings, config: TrainingConfig
) -> dg.MaterializeResult:
    """A U-Net of one encoder and batch size: weights, card, threshold and temperature."""
    assert isinstance(context.partition_key, dg.MultiPartitionKey)
    chosen = context.partition_key.keys_by_dimension
    out = _bundle(settings, context.partition_key)
    out.parent.mkdir(parents=True, exist_ok=True)
    card = train_model(
        settings.chips_location,
        out,
        tracker=settings.tracker(),
        on_epoch=lambda epoch: context.log.info(f"epoch {epoch['epoch'] + 1}: {epoch}"),
        **{**config.model_dump(), **chosen},
    )
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(out),
            "validation_loss": lowest_loss(card),
            "threshold": card.threshold,
            "metrics": scores(card.metrics),
            "losses": picture(loss_figure(card.training["history"]), "loss by epoch"),
        }
    )


@step(group_name=GROUP, deps=[trained_model])
def best_model(context: dg.AssetExecutionContext, settings: Settings) -> dg.MaterializeResult:
    """The trained model of lowest validation loss, promoted as `best_model`."""
    there = context.instance.get_materialized_partitions(trained_model.key)
    bundles = [_bundle(settings, key) for key in sorted(there)]
    result = rank_bundles(bundles, settings.models, ["encoder", "batch_size"])
    reference = push_model(best_bundle(result), settings.registry, ["best_model"])
    rows = [{**trial.parameters, "validation_loss": trial.value} for trial in result.trials]
    return dg.MaterializeResult(
        metadata={
            "reference": reference,
            "models": table(rows),
            "losses": picture((settings.models / "trials.png").read_bytes(), "losses of models"),
        }
    )


@step(group_name=GROUP, deps=[best_model, validation_chips], **GPU)
def precision_recall_curve(settings: Settings) -> dg.MaterializeResult:
    """Precision and recall of the best model on validation, by threshold."""
    out = settings.folder / "evaluation" / "curve"
    evaluate_model(settings.best_model, settings.chips_location, out, n_chips=0)
    with (out / "validation" / "precision_recall.csv").open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    drawn = (out / "validation" / "precision_recall.png").read_bytes()
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(out),
            "curve": table(rows),
            "figure": picture(drawn, "precision against recall"),
        }
    )


@step(group_name=GROUP, deps=[precision_recall_curve])
def threshold(settings: Settings) -> dg.MaterializeResult:
    """The threshold of best F1 on validation, by which the metrics are taken."""
    metrics = read_json(settings.folder / "evaluation" / "curve" / METRICS_NAME) or {}
    chosen = metrics["splits"]["validation"]["best_threshold"]
    write_json(_threshold_path(settings), {"threshold": chosen, "model": metrics["model"]})
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(_threshold_path(settings)),
            "threshold": chosen,
            "model": metrics["model"],
        }
    )


def _metrics(split: str, chips: dg.AssetsDefinition) -> dg.AssetsDefinition:
    @step(
        name=f"{split}_metrics",
        group_name=GROUP,
        deps=[threshold, chips],
        description=f"Scores of the best model on {split}, at the threshold; page and figures.",
        **GPU,
    )
    def metrics(settings: Settings) -> dg.MaterializeResult:
        out = settings.folder / "evaluation" / split
        found = _evaluated(settings, out, [split], n_chips=6)["splits"][split]
        return dg.MaterializeResult(
            metadata={
                "report": dg.MetadataValue.path(out / "report.html"),
                "threshold": found["threshold"],
                "chips": found["chips"],
                "scores": scores(found["scores"]),
                "always_forest": scores(found["always_forest"]),
                "errors": picture((out / split / "edges.png").read_bytes(), "errors at edges"),
            }
        )

    return metrics


validation_metrics = _metrics("validation", validation_chips)
test_metrics = _metrics("test", test_chips)


@step(group_name="figures", deps=[threshold, validation_chips, test_chips], **GPU)
def chip_figures(settings: Settings) -> dg.MaterializeResult:
    """Each chip of validation and test in six panels, with truth and prediction."""
    out = settings.folder / "figures" / "chips"
    _evaluated(settings, out, ["validation", "test"], n_chips=None)
    first = min((out / "validation" / "chips").iterdir())
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(out),
            "first": picture(first.read_bytes(), first.stem),
        }
    )


def _evaluated(
    settings: Settings, out: Path, splits: Sequence[str], n_chips: int | None
) -> dict[str, Any]:
    chosen = read_json(_threshold_path(settings)) or {}
    if chosen.get("model") != open_model(settings.best_model).model_id:
        sentence = "no threshold of the best model: materialise precision_recall_curve, threshold"
        raise dg.Failure(sentence, allow_retries=False)
    return evaluate_model(
        settings.best_model,
        settings.chips_location,
        out,
        splits=splits,
        threshold=chosen["threshold"],
        n_chips=n_chips,
    )


def _bundle(settings: Settings, partition_key: str) -> Path:
    return settings.models / "trials" / partition_key.replace("|", "-")


def _threshold_path(settings: Settings) -> Path:
    return settings.folder / "evaluation" / "threshold.json"
