"""Draw chips, curves, losses and trials. Each public function returns the bytes of a PNG file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from geoforest.arrays.reflectance import ndvi
from geoforest.arrays.scores import Counts
from geoforest.report.picture import mask_image, png, true_colour
from geoforest.types import FOREST, NO_OBSERVATION, Array, Mask

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from geoforest.models.bundle import ThresholdPoint
    from geoforest.train.calibration import ReliabilityBin
    from geoforest.train.evaluate import EdgeScore

_TRAIN, _VALIDATION, _MARK = "#7a7a7a", "#1b7837", "#b2182b"
_OVERLAY = "#ff5a36"
_DPI = 110


def chip_figure(name: str, dn: Array, truth: Mask, predicted: Mask, bands: Sequence[str]) -> bytes:
    """Draw a chip in six panels: RGB, NDVI, truth and prediction, alone and over NDVI.

    Parameters
    ----------
    name
        Name of the chip.
    dn
        Stored values, ``(band, row, col)``.
    truth, predicted
        Mask codes ``(row, col)``; the prediction has 255 where nothing was observed.
    bands
        Names of the bands of ``dn``. Without near infrared, true colour replaces NDVI.
    """
    rgb = true_colour(dn[_true_colour_bands(bands)], predicted != NO_OBSERVATION)
    index = _ndvi(dn, bands)
    base = rgb if index is None else _grey(np.nan_to_num(index))
    scores = Counts.of(truth, predicted).scores()
    figure = Figure(figsize=(10.5, 7.4), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3).flat
    below = "true colour" if index is None else "NDVI"
    _draw_rgb(axes[0], rgb, "true colour")
    _draw_ndvi(axes[1], index, rgb)
    _draw_mask(axes[2], truth, "truth")
    _draw_rgb(axes[3], _overlaid(base, truth), f"truth over {below}")
    _draw_mask(axes[4], predicted, "prediction")
    _draw_rgb(axes[5], _overlaid(base, predicted), f"prediction over {below}")
    figure.suptitle(
        f"{name}: " + ", ".join(f"{score} {value:.3f}" for score, value in scores.items()),
        parse_math=False,
    )
    return png(figure)


def label_figure(name: str, dn: Array, truth: Mask, bands: Sequence[str]) -> bytes:
    """Draw a chip without a prediction: true colour, NDVI, and the labels over NDVI.

    Parameters
    ----------
    name
        Name of the chip.
    dn
        Stored values, ``(band, row, col)``.
    truth
        Mask codes ``(row, col)``.
    bands
        Names of the bands of ``dn``. Without near infrared, true colour replaces NDVI.
    """
    rgb = true_colour(dn[_true_colour_bands(bands)], truth != NO_OBSERVATION)
    index = _ndvi(dn, bands)
    base = rgb if index is None else _grey(np.nan_to_num(index))
    figure = Figure(figsize=(10.5, 4.0), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3)
    _draw_rgb(axes[0], rgb, "true colour")
    _draw_ndvi(axes[1], index, rgb)
    _draw_rgb(axes[2], _overlaid(base, truth), "labelled forest")
    figure.suptitle(name, parse_math=False)
    return png(figure)


def precision_recall_figure(
    curve: Sequence[ThresholdPoint], *, marked: ThresholdPoint, always_forest: Mapping[str, float]
) -> bytes:
    """Draw precision against recall, with the threshold in use and the model-free baseline."""
    figure, axes = _one_panel()
    points = sorted(curve, key=lambda point: point.recall)
    axes.plot(
        [point.recall for point in points],
        [point.precision for point in points],
        "o-",
        color=_VALIDATION,
        markersize=3,
        label="thresholds",
    )
    axes.plot(
        marked.recall,
        marked.precision,
        "*",
        color=_MARK,
        markersize=15,
        label=f"threshold {marked.threshold:g}: F1 {marked.f1:.3f}",
    )
    axes.axhline(
        always_forest["precision"],
        color=_TRAIN,
        linestyle=":",
        label=f"always forest: F1 {always_forest['f1']:.3f}",
    )
    axes.set(xlabel="recall of forest", ylabel="precision of forest", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="lower left")
    return png(figure)


def loss_figure(history: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw training loss (dashed) and validation loss (solid), the best epoch marked.

    ``history`` is the history of a model card: rows with ``epoch``, counted from 0, ``train_loss``
    and ``val_loss``, each of which may be None.
    """
    figure, axes = _one_panel()
    epochs = [epoch["epoch"] + 1 for epoch in history]
    # None, which stands for a loss that is not finite, becomes NaN and leaves a gap.
    training, validation = (
        np.array([epoch[name] for epoch in history], np.float64)
        for name in ("train_loss", "val_loss")
    )
    axes.plot(epochs, training, "--", color=_TRAIN, label="training")
    axes.plot(epochs, validation, "-", color=_VALIDATION, label="validation")
    if np.isfinite(validation).any():
        best = int(np.nanargmin(validation))
        axes.plot(
            epochs[best],
            validation[best],
            "*",
            color=_MARK,
            markersize=14,
            label=f"best epoch {epochs[best]}: {validation[best]:.4f}",
        )
    axes.set(xlabel="epoch", ylabel="loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return png(figure)


def reliability_figure(bins: Sequence[ReliabilityBin], *, ece: float) -> bytes:
    """Draw the share of forest against its probability, and the share of pixels in each bin."""
    figure, axes = _one_panel()
    total = sum(one.pixels for one in bins)
    axes.plot([0, 1], [0, 1], ":", color=_TRAIN, label="what it should be")
    axes.bar(
        [(one.low + one.high) / 2 for one in bins],
        [one.pixels / total for one in bins],
        width=0.09,
        color="#d9d9d9",
        label="share of pixels",
    )
    axes.plot(
        [one.mean_probability for one in bins],
        [one.forest_share for one in bins],
        "o-",
        color=_VALIDATION,
        label=f"expected calibration error {ece:.4f}",
    )
    axes.set(xlabel="probability", ylabel="share of forest in truth", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="upper left")
    return png(figure)


def edge_figure(edges: Sequence[EdgeScore]) -> bytes:
    """Draw the share of wrong pixels by distance from the edge of forest."""
    figure, axes = _one_panel()
    edges = [edge for edge in edges if edge.pixels]
    labels = [
        f"> {edge.low_px:g}" if np.isinf(edge.high_px) else f"{edge.low_px:g} to {edge.high_px:g}"
        for edge in edges
    ]
    wrong = sum(edge.errors for edge in edges) or 1
    bars = axes.bar(labels, [edge.errors / edge.pixels for edge in edges], color=_VALIDATION)
    axes.bar_label(bars, [f"{edge.errors / wrong:.0%} of errors" for edge in edges])
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(xlabel="distance from the edge of forest in truth, px", ylabel="wrong pixels")
    axes.margins(y=0.12)
    return png(figure)


def sweep_figure(trials: Sequence[Mapping[str, Any]], *, metric: str) -> bytes:
    """Draw the metric of each trial, best first; rows are ``{"parameters": {...}, "value": x}``."""
    done = sorted((t for t in trials if t["value"] is not None), key=lambda t: t["value"])
    figure, axes = _one_panel(height=1.2 + 0.32 * max(len(done), 1))
    names = [
        ", ".join(f"{name} {_shortened(str(value))}" for name, value in trial["parameters"].items())
        for trial in done
    ]
    places = np.arange(len(done))
    axes.plot([trial["value"] for trial in done], places, "o", color=_VALIDATION)
    if done:
        axes.plot(done[0]["value"], 0, "*", color=_MARK, markersize=14)
    axes.set_yticks(places, names, parse_math=False)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.4)
    axes.set(xlabel=metric)
    return png(figure)


def _shortened(text: str) -> str:
    """Return at most the last 23 characters of a text, so that paths leave room for the axes."""
    return text if len(text) <= 24 else f"…{text[-23:]}"


def _true_colour_bands(bands: Sequence[str]) -> list[int]:
    wanted = ("B04", "B03", "B02")
    return [bands.index(band) if band in bands else 0 for band in wanted]


def _ndvi(dn: Array, bands: Sequence[str]) -> NDArray[np.float64] | None:
    if "B08" not in bands or "B04" not in bands:
        return None
    return np.asarray(ndvi(dn[bands.index("B04")], dn[bands.index("B08")]), np.float64)


def _draw_ndvi(axes: Axes, index: NDArray[np.float64] | None, rgb: NDArray[np.float64]) -> None:
    if index is None:
        _draw_rgb(axes, rgb, "no near infrared")
        return
    shown = axes.imshow(index, vmin=-0.2, vmax=1, cmap="RdYlGn", interpolation="nearest")
    # Inside its panel, so that all panels have the same size.
    bar = axes.inset_axes((0.92, 0.04, 0.05, 0.5))
    axes.figure.colorbar(shown, cax=bar, ticks=[0, 0.5, 1])
    axes.set(title="NDVI", xticks=[], yticks=[])


def _grey(index: NDArray[np.float64]) -> NDArray[np.float64]:
    shade = np.clip((index + 0.2) / 1.2, 0, 1)
    return np.repeat(shade[..., None], 3, axis=-1)


def _overlaid(base: NDArray[np.float64], mask: Mask) -> NDArray[np.float64]:
    picture = base.copy()
    picture[mask == FOREST] = 0.5 * picture[mask == FOREST] + 0.5 * np.array(to_rgb(_OVERLAY))
    return picture


def _draw_rgb(axes: Axes, picture: NDArray[np.float64], title: str) -> None:
    axes.imshow(picture, interpolation="nearest")
    axes.set(title=title, xticks=[], yticks=[])


def _draw_mask(axes: Axes, mask: Mask, title: str) -> None:
    mask_image(axes, mask)
    axes.set(title=title, xticks=[], yticks=[])


def _one_panel(height: float = 4.6) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.8, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
