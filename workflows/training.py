"""Train models, promote the best, choose its threshold, evaluate it, and draw its chips."""

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from geoforest import (
    evaluate_model,
    lowest_loss,
    open_model,
    push_model,
    rank_bundles,
    train_model,
)
from geoforest.train.figures import loss_figure
from workflows.chips import channel_statistics, test_chips, train_chips, validation_chips
from workflows.metadata import picture, scores, table
from workflows.settings import Settings
from workflows.steps import GPU, Materialized, step

GROUP = "model"


def _words_of_variable(name: str, default: str) -> list[str]:
    return [word.strip() for word in os.environ.get(name, default).split(",")]


# By default the weights are random at first, so that nothing needs to be downloaded.
MODELS = dg.MultiPartitionsDefinition(
    {
        "encoder": dg.StaticPartitionsDefinition(
            _words_of_variable("GEOFOREST_ENCODERS", "resnet18,mobilenet_v2")
        ),
        "batch_size": dg.StaticPartitionsDefinition(
            _words_of_variable("GEOFOREST_BATCH_SIZES", "2,4")
        ),
    }
)


class TrainingConfig(dg.Config):
    """Training settings that partitions do not vary; see ``geoforest train --help``."""

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
) -> Materialized:
    """A U-Net of one encoder and batch size: weights, card, threshold and temperature."""
    assert isinstance(context.partition_key, dg.MultiPartitionKey)
    chosen = context.partition_key.keys_by_dimension
    out = _bundle_folder(settings, context.partition_key)
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
def best_model(context: dg.AssetExecutionContext, settings: Settings) -> Materialized:
    """The trained model of lowest validation loss, promoted as `best_model`."""
    there = context.instance.get_materialized_partitions(trained_model.key)
    bundles = [_bundle_folder(settings, key) for key in sorted(there)]
    result = rank_bundles(bundles, settings.models, ["encoder", "batch_size"])
    reference = push_model(open_model(result.best.bundle), settings.registry, ["best_model"])
    rows = [{**trial.parameters, "validation_loss": trial.value} for trial in result.trials]
    return dg.MaterializeResult(
        metadata={
            "reference": reference,
            "models": table(rows),
            "losses": picture((settings.models / "trials.png").read_bytes(), "losses of models"),
        }
    )


@step(group_name=GROUP, deps=[best_model, validation_chips], **GPU)
def precision_recall_curve(settings: Settings) -> Materialized:
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
def threshold(settings: Settings) -> Materialized:
    """The threshold of best F1 on validation, at which metrics are computed."""
    metrics = _read_json(settings.folder / "evaluation" / "curve" / "metrics.json")
    chosen = metrics["splits"]["validation"]["best_threshold"]
    _threshold_path(settings).write_text(
        json.dumps({"threshold": chosen, "model": metrics["model"]}, indent=2) + "\n",
        encoding="utf-8",
    )
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
    def metrics(settings: Settings) -> Materialized:
        out = settings.folder / "evaluation" / split
        found = _evaluate(settings, out, [split], n_chips=6)["splits"][split]
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
def chip_figures(settings: Settings) -> Materialized:
    """Each chip of validation and test in six panels, with truth and prediction."""
    out = settings.folder / "figures" / "chips"
    _evaluate(settings, out, ["validation", "test"], n_chips=None)
    first = min((out / "validation" / "chips").iterdir())
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(out),
            "first": picture(first.read_bytes(), first.stem),
        }
    )


def _evaluate(
    settings: Settings, out: Path, splits: Sequence[str], n_chips: int | None
) -> dict[str, Any]:
    path = _threshold_path(settings)
    chosen = _read_json(path) if path.exists() else {}
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


def _bundle_folder(settings: Settings, partition_key: str) -> Path:
    return settings.models / "trials" / partition_key.replace("|", "-")


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _threshold_path(settings: Settings) -> Path:
    return settings.folder / "evaluation" / "threshold.json"
