"""``geoforest data``: fetch labelled chips, and check them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geoforest.cli._shared import AsJson, print_json, progress_bar, words

if TYPE_CHECKING:
    from geoforest.train.check import DataCheck

app = typer.Typer(help="Fetch and check labelled chips.", no_args_is_help=True)
fetch = typer.Typer(help="Fetch a published set.", no_args_is_help=True)
app.add_typer(fetch, name="fetch")


@app.command("check", no_args_is_help=True)
def check_command(
    data: Annotated[
        str,
        typer.Argument(
            help="Folder, local or s3://, with train/ and validation/, each images/ and masks/."
        ),
    ],
    bands: Annotated[str, typer.Option(help="Bands of the chips.")] = "B04,B03,B02,B08",
    as_json: AsJson = False,
) -> None:
    """Check a set of labelled chips for training: one line per finding.

    Exits with 2 when there is an error. The keys of an `s3://` set come from the environment.

    **Example:** `geoforest data check s3://bucket/amazon`
    """
    from geoforest.io.files import without_secrets
    from geoforest.train.check import check_data

    with progress_bar("check") as progress:
        check = check_data(data, bands=words(bands), progress=progress)
    if as_json:
        print_json(
            {
                "data": without_secrets(data),
                "findings": [asdict(finding) for finding in check.findings],
                "splits": {
                    name: {**asdict(count), "forest_percent": count.forest_percent}
                    for name, count in check.splits.items()
                },
            }
        )
    else:
        print(*check.findings, describe(check), sep="\n")
    if check.failed:
        raise typer.Exit(2)


def describe(check: DataCheck) -> str:
    """Describe counts and forest shares in one line."""
    splits = [
        f"{name} {count.chips:,} chip(s)"
        + ("" if count.forest_percent is None else f", {count.forest_percent:.1f} % forest")
        for name, count in check.splits.items()
    ]
    errors = sum(finding.level == "error" for finding in check.findings)
    return (
        f"{'; '.join(splits) or 'no chips'}: {errors} error(s), "
        f"{len(check.findings) - errors} warning(s)"
    )


@fetch.command("amazon", no_args_is_help=True)
def amazon_command(
    out: Annotated[Path, typer.Option(help="Folder for the set.")],
    url: Annotated[
        str | None, typer.Option(help="URL of the record's JSON. By default Zenodo's own.")
    ] = None,
    retries: Annotated[
        int, typer.Option(min=0, help="Attempts without any new byte before the download fails.")
    ] = 6,
    as_json: AsJson = False,
) -> None:
    """Fetch the four-band Amazon set (Bragagnolo et al. 2021, CC BY 4.0) from Zenodo.

    A killed or interrupted run goes on where it was when the same command is given again.

    **Example:** `geoforest data fetch amazon --out data/amazon`
    """
    from geoforest.train.fetch import RECORD_URL, fetch_amazon

    with progress_bar("amazon") as progress:
        fetched = fetch_amazon(
            out,
            record_url=url or RECORD_URL,
            retries=retries,
            progress=lambda stage, done, total: progress(f"{stage}, MB", done >> 20, total >> 20),
        )
    if as_json:
        print_json({"folder": str(out), "chips": fetched.chips, "already": fetched.already})
        return
    chips = ", ".join(f"{split} {count:,}" for split, count in fetched.chips.items())
    there = "is there already" if fetched.already else "fetched and verified"
    print(f"{out}: {there}: chips {chips}; manifest.json lists the files")
