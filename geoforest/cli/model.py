"""``geoforest model``: show and move bundles, and import other weights into one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from geoforest.cli._shared import AsJson, print_json, say, warnings_said, words

app = typer.Typer(
    help="Show, import, pull and push model bundles.",
    no_args_is_help=True,
)

Reference = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="`bundled`, a folder, a .zip, `folder:PATH/NAME`, `wandb:ENTITY/PROJECT/NAME`, each "
        "with `:VERSION` or `:ALIAS` or none, or a URL such as `s3://BUCKET/NAME.zip`.",
    ),
]


@app.command("list")
def list_command(
    registry: Annotated[
        str | None,
        typer.Argument(
            help="Registry whose models are listed, too: `folder:PATH` or `wandb:ENTITY/PROJECT`."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the bundled models, and those of a registry.

    **Example:** `geoforest model list folder:models`
    """
    from geoforest.models.registry import BUNDLED, open_model, open_registry

    entries = open_registry(registry).entries() if registry else []
    bundle = open_model(BUNDLED)
    if as_json:
        print_json(
            [
                {"reference": BUNDLED, "model": bundle.model_id},
                *map(asdict, entries),
            ]
        )
        return
    print(f"{BUNDLED}\t{bundle.model_id}\t{', '.join(bundle.card.bands)}")
    for entry in entries:
        print(f"{entry.reference}\t{entry.model}\t{', '.join(entry.aliases)}\t{entry.created}")


@app.command("show")
def show_command(
    reference: Reference = "bundled",
    as_json: AsJson = False,
) -> None:
    """Show the card of a model.

    **Example:** `geoforest model show bundled`
    """
    from geoforest.models.registry import open_model

    bundle = open_model(reference)
    card = bundle.card
    if as_json:
        print_json({"model": bundle.model_id, **card.model_dump(mode="json")})
        return
    skipped = {"threshold_curve", "training", "versions", "metrics"}
    print(f"model: {bundle.model_id}")
    for name, value in card.model_dump(mode="json", exclude=skipped).items():
        print(f"{name}: {value}")
    for name, number in card.metrics.items():
        print(f"metrics.{name}: {number:.4f}")


@app.command("import", no_args_is_help=True)
def import_command(
    weights: Annotated[
        Path, typer.Argument(help="State dict or checkpoint: .pt, .pth, .ckpt, .safetensors.")
    ],
    out: Annotated[Path, typer.Option(help="Bundle folder to write.")],
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Encoder in smp. By default from a name `{encoder}_batch{b}_lr{lr}_weights.pt`."
        ),
    ] = None,
    bands: Annotated[str, typer.Option(help="Band order of the input.")] = "B04,B03,B02,B08",
    mean: Annotated[
        str | None, typer.Option(help="Mean per band of the training data, reflectance x 10000.")
    ] = None,
    std: Annotated[
        str | None,
        typer.Option(help="Standard deviation per band of the training data, reflectance x 10000."),
    ] = None,
    threshold: Annotated[float, typer.Option(help="Threshold of best F1 on validation.")] = 0.5,
    window: Annotated[
        int, typer.Option(help="Side of the square that the network reads, in pixels.")
    ] = 512,
    name: Annotated[
        str | None, typer.Option(help="Name of the model. By default the file's stem.")
    ] = None,
    training_data: Annotated[
        str, typer.Option(help="Data that the model was trained on.")
    ] = "not stated",
    license_: Annotated[
        str, typer.Option("--license", help="License of the weights.")
    ] = "not stated",
) -> None:
    """Turn the weights of a U-Net into a bundle, once, without running code from their file.

    The state dict may lie in a checkpoint, such as Lightning's, and its names may begin with
    `module.`, `model.` or the like: what is stripped, dropped and deduced is said.

    **Example:** `geoforest model import se_resnet50_batch4_lr1.0e-04_weights.pt --out amazon
    --mean 622.59,683.14,436.69,2951.97 --std 541.08,368.43,342.26,633.47 --threshold 0.35`
    """
    from geoforest.errors import InputError
    from geoforest.models.importer import import_weights

    def floats(text: str | None, option: str) -> list[float]:
        if text is None:
            raise InputError(f"{option} is wanted: the weights do not say how to normalise")
        try:
            return [float(part) for part in text.split(",")]
        except ValueError as error:
            raise InputError(f"{option} {text!r}: numbers with commas between") from error

    bundle = import_weights(
        weights,
        out,
        encoder=encoder,
        bands=words(bands),
        mean=floats(mean, "--mean"),
        std=floats(std, "--std"),
        threshold=threshold,
        window=window,
        name=name,
        training_data=training_data,
        weights_license=license_,
        on_note=lambda note: say(f"{weights}: {note}"),
    )
    print(f"{bundle.path}: {bundle.model_id}")


@app.command("pull", no_args_is_help=True)
def pull_command(
    reference: Reference,
    out: Annotated[Path, typer.Option(help="Bundle folder to make.")],
    as_json: AsJson = False,
) -> None:
    """Copy a model from a registry or a URL into a bundle folder.

    A state dict that the reference system published becomes a bundle.

    **Example:** `geoforest model pull
    wandb:akshaysuresh1/amazonforest_segmentation/unet_with_se_resnet50:best_model --out amazon`
    """
    from geoforest.models.copies import save_copy
    from geoforest.models.registry import open_model

    bundle = save_copy(open_model(reference), out)
    if as_json:
        print_json({"out": str(out), "model": bundle.model_id})
    else:
        print(f"{out}: {bundle.model_id}")


@app.command("push", no_args_is_help=True)
def push_command(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder or .zip.")],
    reference: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="`folder:PATH/NAME` or `wandb:ENTITY/PROJECT/NAME`, no version."
        ),
    ],
    alias: Annotated[
        list[str] | None, typer.Option(help="Alias to move to this version; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Store a bundle in a registry as a new version of a model.

    **Example:** `geoforest model push models/mine folder:registry/unet --alias best_model`
    """
    from geoforest.models.bundle import load_bundle
    from geoforest.models.registry import push_model

    opened = load_bundle(bundle)
    with warnings_said():
        pushed = push_model(opened, reference, alias or [])
    if as_json:
        print_json({"reference": pushed, "model": opened.model_id})
    else:
        print(f"{pushed}: {opened.model_id}")
