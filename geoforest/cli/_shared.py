"""What several commands share: progress on stderr, results on stdout."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from geoforest.errors import GeoforestWarning

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")]
MinAreaHa = Annotated[
    float, typer.Option(help="Minimum mapping unit for patches and holes, ha; 0 keeps all.")
]
MaxVertices = Annotated[
    int, typer.Option(help="Patches with more vertices are written in parts; 0 never cuts.")
]
Wandb = Annotated[
    str | None,
    typer.Option(
        metavar="ENTITY/PROJECT",
        help="Track in Weights & Biases, too; the key is in WANDB_API_KEY.",
    ),
]


def split_project(project: str) -> tuple[str | None, str]:
    """Entity, None for that of the key, and name of ``ENTITY/PROJECT`` or ``PROJECT``."""
    entity, _, name = project.rpartition("/")
    return entity or None, name


def words(text: str) -> list[str]:
    """Split what is given by commas, such as names of bands."""
    return [word.strip() for word in text.split(",")]


@contextmanager
def warnings_said() -> Iterator[None]:
    """Say our own warnings as they come, in a line each, without where in the code they are."""

    def said(message: Warning | str, *_: Any, **__: Any) -> None:
        say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", GeoforestWarning)
        warnings.showwarning = said
        yield


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show windows/s and time left; stay quiet when stderr is no terminal."""
    with progress_bars(1) as begin:
        yield begin(title)


@contextmanager
def progress_bars(count: int) -> Iterator[Callable[[str], Callable[[str, int, int], None]]]:
    """Give a bar to each title that is begun, and with several a line over all."""
    if not sys.stderr.isatty():
        yield lambda title: lambda stage, done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            rate = task.finished_speed or task.speed
            unit = " windows/s" if task.fields.get("rated") else ""
            return Text(f"{rate:.1f}{unit}" if rate and unit else "")

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        # The rate of a job is steady; a long memory gives a steady estimate.
        speed_estimate_period=600,
    ) as bars:
        overall = bars.add_task("scenes begun", total=count) if count > 1 else None

        def begin(title: str) -> Callable[[str, int, int], None]:
            tasks: dict[str, Any] = {}
            if overall is not None:
                bars.advance(overall)

            def update(stage: str, done: int, total: int) -> None:
                if stage not in tasks:
                    # The stages of a scene follow one another: one line a scene.
                    for earlier in tasks.values():
                        bars.update(earlier, visible=count == 1)
                    tasks[stage] = bars.add_task(
                        f"{title}: {stage}", total=total, completed=done, rated=stage == "predict"
                    )
                bars.update(tasks[stage], completed=done, total=total)

            return update

        yield begin


def say(text: str) -> None:
    """Print a line for people, on stderr, so that stdout stays clean for pipes."""
    print(text, file=sys.stderr)


def print_json(value: Any) -> None:
    """One line of JSON on stdout."""
    print(json.dumps(value))
