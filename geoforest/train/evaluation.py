"""Evaluate a model on labelled chips: scores, curves, and the best and worst chips on one page."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from geoforest._version import __version__
from geoforest.arrays.scores import DEFINITION, Counts
from geoforest.arrays.stitch import mask_from_probability
from geoforest.errors import InputError
from geoforest.io.files import without_secrets
from geoforest.io.publication import new_folder
from geoforest.io.tables import csv_text
from geoforest.models.registry import load_model
from geoforest.report.page import render
from geoforest.train import figures
from geoforest.train.chips import Chip, read_split, refuse_labels
from geoforest.train.evaluate import CURVE_THRESHOLDS, Evaluation, evaluate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from geoforest.arrays.predict import Predictor
    from geoforest.models.bundle import ModelCard

METRICS_NAME: Final = "metrics.json"
REPORT_NAME: Final = "report.html"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_SCORES = ("accuracy", "precision", "recall", "iou", "f1")
_AGGREGATIONS = {"": "pooled", "per_image_": "per-image mean", "weighted_": "support-weighted"}


@dataclass(frozen=True, eq=False)
class SplitResult:
    """Evaluation of a model on one split, with its figures as PNG by name.

    ``pictures`` are curves, ``chips`` the drawn chips.
    """

    name: str
    evaluation: Evaluation
    threshold: float
    pictures: dict[str, bytes]
    chips: dict[str, bytes]

    @cached_property
    def scores(self) -> dict[str, float]:
        """Scores at the threshold, by name."""
        return self.evaluation.scores(self.threshold)

    def table(self) -> list[tuple[str, list[float]]]:
        """Return a title and its scores per aggregation, in the order of the columns."""
        return [
            (title, [self.scores[f"{prefix}{score}"] for score in _SCORES])
            for prefix, title in _AGGREGATIONS.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the split's part of ``metrics.json``."""
        return {
            "threshold": self.threshold,
            "chips": len(self.evaluation.chips),
            "scores": self.scores,
            "always_forest": self.evaluation.always_forest(),
            "best_threshold": self.evaluation.best_threshold(),
            "by_distance_px": [
                {**asdict(edge), "high_px": None if edge.high_px == float("inf") else edge.high_px}
                for edge in self.evaluation.by_distance(self.threshold)
            ],
            "reliability": [asdict(one) for one in self.evaluation.reliability()],
        }


def evaluate_model(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    splits: Sequence[str] = ("validation",),
    threshold: float | None = None,
    n_chips: int | None = 6,
    device: str = "auto",
    progress: Callable[[str], None] = lambda _text: None,
) -> dict[str, Any]:
    """Evaluate a model on labelled chips and write scores, curves, figures and a report.

    The threshold is that of the model's card unless another is given; no split changes it. In
    models trained here, it was chosen on validation.

    Parameters
    ----------
    model
        Reference of a bundle; see :mod:`geoforest.models.references`.
    data
        Folder of labelled chips, local or on S3.
    out
        Folder to create: ``metrics.json``, ``report.html``, and per split
        ``precision_recall.csv``, ``chips.csv``, curves, and figures of chips. An earlier
        evaluation is replaced.
    splits
        Names of the splits to evaluate.
    threshold
        Threshold to use instead of the card's.
    n_chips
        Chips per split to draw, half of them the best and half the worst; None draws all.
    device
        As for :func:`geoforest.load_model`.
    progress
        Called with a line of text per stage.

    Returns
    -------
    dict
        Content of ``metrics.json``.

    Raises
    ------
    InputError
        When the threshold is not from 0 to 1, or the splits are not distinct plain names.
    BundleError
        When the model cannot be opened.
    DataError
        When the chips cannot be used, or a split has no labelled pixel.
    OutputError
        When ``out`` exists and is not an evaluation.
    """
    _check_options(splits, threshold)
    predictor = load_model(model, device=device)
    card = predictor.card
    chosen = card.threshold if threshold is None else threshold
    results = []
    with new_folder(Path(out), mark=METRICS_NAME, what="evaluation") as folder:
        for split in splits:
            progress(f"{split}: reading and predicting")
            chips = read_split(
                data,
                split,
                n_bands=card.in_channels,
                bands=card.bands,
                scale=card.reflectance_scale,
            )
            refuse_labels(data, split, chips, one_class_will_do=True)
            result = evaluate_split(split, predictor, card, chips, chosen, n_chips)
            _write_split(folder / split, result)
            results.append(result)
        metrics = {
            "geoforest": __version__,
            "model": predictor.model_id,
            "data": without_secrets(str(data)),
            "definition": DEFINITION,
            "splits": {result.name: result.to_dict() for result in results},
        }
        (folder / METRICS_NAME).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        loss = figures.loss_figure(card.training["history"]) if _has_history(card) else None
        if loss is not None:
            (folder / "loss.png").write_bytes(loss)
        (folder / REPORT_NAME).write_text(
            _render_report(
                predictor.model_id, card, results, loss, threshold_given=threshold is not None
            ),
            encoding="utf-8",
        )
    return metrics


def _check_options(splits: Sequence[str], threshold: float | None) -> None:
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"threshold {threshold:g}: a probability from 0 to 1 was wanted")
    for split in splits:
        # Each split becomes a folder of the evaluation.
        if not _PLAIN_NAME.fullmatch(split):
            raise InputError(f"split {split!r}: a name such as validation or test was wanted")
    if not splits or len(set(splits)) < len(splits):
        raise InputError(f"splits {', '.join(splits) or 'none'}: one or several were wanted, once")


def evaluate_split(
    split: str,
    predictor: Predictor,
    card: ModelCard,
    chips: Sequence[Chip],
    threshold: float,
    n_chips: int | None,
) -> SplitResult:
    """Evaluate a predictor on one split and draw it."""
    evaluation = evaluate(predictor, chips, scale=card.reflectance_scale)
    marked = evaluation.curve([threshold])[0]
    pictures = {
        "precision_recall": figures.precision_recall_figure(
            evaluation.curve(), marked=marked, always_forest=evaluation.always_forest()
        ),
        "reliability": figures.reliability_figure(
            evaluation.reliability(), ece=evaluation.scores(threshold)["ece"]
        ),
        "edges": figures.edge_figure(evaluation.by_distance(threshold)),
    }
    drawn = {}
    by_name = {chip.name: chip for chip in chips}
    for name in _best_and_worst(evaluation.counts(threshold), n_chips):
        chip = by_name[name]
        predicted = mask_from_probability(evaluation.stored[name], threshold)
        drawn[name] = figures.chip_figure(name, chip.dn, chip.mask, predicted, card.bands)
    return SplitResult(split, evaluation, threshold, pictures, drawn)


def _best_and_worst(counts: dict[str, Counts], n_chips: int | None) -> list[str]:
    """Return names of labelled chips from best to worst F1: all, or ``n_chips`` from both ends."""

    def key(name: str) -> tuple[float, float]:
        scores = counts[name].scores()
        return scores["f1"], scores["accuracy"]

    labelled = [name for name, one in counts.items() if one.pixels]
    ranked = sorted(labelled, key=key, reverse=True)
    if n_chips is None or n_chips >= len(ranked):
        return ranked
    best = (n_chips + 1) // 2
    return ranked[:best] + ranked[len(ranked) - (n_chips - best) :]


def _write_split(folder: Path, result: SplitResult) -> None:
    (folder / "chips").mkdir(parents=True)
    for name, picture in result.pictures.items():
        (folder / f"{name}.png").write_bytes(picture)
    for name, picture in result.chips.items():
        (folder / "chips" / f"{name}.png").write_bytes(picture)
    thresholds = sorted({*CURVE_THRESHOLDS, result.threshold, result.evaluation.best_threshold()})
    curve = result.evaluation.curve(thresholds)
    (folder / "precision_recall.csv").write_text(
        csv_text([point.model_dump() for point in curve]), encoding="utf-8"
    )
    rows = [
        {"chip": name, **asdict(counts), **_scores_or_blanks(counts)}
        for name, counts in result.evaluation.counts(result.threshold).items()
    ]
    (folder / "chips.csv").write_text(csv_text(rows), encoding="utf-8")


def _scores_or_blanks(counts: Counts) -> dict[str, Any]:
    """Return the scores of a chip; blanks for one without a label, which has no scores."""
    scores: dict[str, Any] = counts.scores()
    return scores if counts.pixels else dict.fromkeys(scores, "")


def _has_history(card: ModelCard) -> bool:
    return bool(card.training.get("history"))


def _render_report(
    model_id: str,
    card: ModelCard,
    results: Sequence[SplitResult],
    loss: bytes | None,
    *,
    threshold_given: bool,
) -> str:
    return render(
        "evaluation.html",
        version=__version__,
        model_id=model_id,
        card=card,
        definition=DEFINITION,
        columns=_SCORES,
        results=results,
        loss=loss,
        threshold_given=threshold_given,
    )
