"""The client of Weights & Biases: imported when needed, without output, with our errors.

The client takes its key from ``WANDB_API_KEY`` or from ``wandb login``. This module reads that
variable only to remove the key from messages.
"""

from __future__ import annotations

import importlib.util
import os
import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from geoforest.errors import BundleError, GeoforestError, InputError, RegistryError
from geoforest.io.storage import is_of_our_disk
from geoforest.models.copies import copy_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import wandb
    from wandb.sdk.wandb_run import Run

    from geoforest.models.bundle import Bundle

MODEL_TYPE = "model"
_FREE_TEXTS = {"WANDB_NOTES", "WANDB_DESCRIPTION"}
_NEEDS_EXTRA = "Weights & Biases needs an extra: pip install 'geoforest[wandb]'"
# A URL's query, which may hold a signature.
_SIGNATURE = re.compile(r"(?<=\w)\?\S*[=&]\S*")
_LONGEST_MESSAGE = 300
_RETRIES = 2
_TIMEOUT_S = 15.0
_FINISH_TIMEOUT_S = 600.0


def silence_wandb() -> None:
    """Import wandb, and stop it from printing and from asking for a key on the terminal.

    Raises
    ------
    InputError
        When wandb is not installed, something else has its name, or one of its settings in the
        environment cannot be used.
    """
    _refuse_strange_variables()
    _refuse_other_modules()
    try:
        import wandb

        wandb.setup(settings=wandb.Settings(silent=True))
    except ImportError as error:
        raise InputError(_NEEDS_EXTRA) from error
    except ValidationError as error:
        raise InputError(_setting_fault(error)) from error
    except Exception as error:  # wandb raises many kinds of errors
        raise InputError(f"W&B cannot start: {error_text(error)}") from error


def _refuse_strange_variables() -> None:
    """Refuse line breaks and outer blanks in WANDB_ variables, such as ``$(cat key)`` may leave."""
    for name, value in sorted(os.environ.items()):
        if not name.startswith("WANDB_") or name in _FREE_TEXTS:
            continue
        if value != value.strip() or not value.isprintable():
            raise InputError(
                f"{name}: holds a line break, a control character or a blank at an end; the value "
                "alone was wanted"
            )


def _refuse_other_modules() -> None:
    """Refuse a file or folder named wandb that Python would take for the package.

    ``python -m`` looks into the current folder first, where earlier runs leave a folder ``wandb``.
    """
    try:
        spec = importlib.util.find_spec("wandb")
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise InputError(_NEEDS_EXTRA)
    folders = spec.submodule_search_locations
    if folders is None:
        raise InputError(
            f"{spec.origin}: Python takes this file for the package wandb; rename it, or start "
            "geoforest in another folder"
        )
    if spec.origin is None:
        raise InputError(f"{_NEEDS_EXTRA} (the folder {next(iter(folders))} is not that package)")


def _setting_fault(error: ValidationError) -> str:
    first = error.errors()[0]
    name = f"WANDB_{'_'.join(map(str, first['loc'])).upper()}"
    value = os.environ.get(name)
    # A key in a message might be kept in a log.
    found = "" if value is None or "KEY" in name else f" = {value[:100]!r}"
    return f"{name}{found}: {first['msg']}"


def is_offline() -> bool:
    """Return whether ``WANDB_MODE`` tells wandb not to contact its server."""
    return os.environ.get("WANDB_MODE") in ("offline", "dryrun", "disabled")


def connect(what: str) -> wandb.Api:
    """Connect to the server and verify the key; ``what`` names the purpose in messages.

    Raises
    ------
    InputError
        When the key is missing, or wandb is offline.
    RegistryError
        When the server cannot be reached, or refuses the key.
    """
    import wandb

    if is_offline():
        raise InputError(f"{what}: needs its server, and WANDB_MODE says not to use it")
    settings = wandb.setup().settings
    retries, timeout = settings.x_graphql_retry_max, settings.x_graphql_timeout_seconds
    # By default the client retries for many minutes, and this process cannot end before.
    settings.x_graphql_retry_max = retries or _RETRIES
    settings.x_graphql_timeout_seconds = timeout or _TIMEOUT_S
    try:
        with wandb_errors(what):
            return wandb.Api()
    finally:
        settings.x_graphql_retry_max = retries
        settings.x_graphql_timeout_seconds = timeout


def run_settings() -> wandb.Settings:
    """Return settings for runs that record what we log and nothing else."""
    import wandb

    return wandb.Settings(
        silent=True,
        # By default a run waits for its server without limit when it ends.
        finish_timeout=wandb.setup().settings.finish_timeout or _FINISH_TIMEOUT_S,
        finish_timeout_raises=True,
        console="off",
        save_code=False,
        disable_git=True,
        # Metadata would hold the command line, and with it signed URLs.
        x_disable_meta=True,
        # Do not continue a run that the user started in this process.
        reinit="create_new",
    )


def model_artifact(
    run: Run, bundle: Bundle, name: str, metadata: Mapping[str, Any] | None = None
) -> wandb.Artifact:
    """Build an artifact from a copy of a bundle in the run's own folder.

    With the copy, an offline run can be synced even after the bundle is moved or deleted.

    Parameters
    ----------
    run
        The run that will log the artifact.
    bundle
        A folder or a zip file.
    name
        Name of the artifact.
    metadata
        Added to :func:`card_metadata`; plain JSON.
    """
    import wandb

    folder = Path(tempfile.mkdtemp(prefix="model-", dir=Path(run.dir).parent))
    copy_bundle(bundle, folder)
    artifact = wandb.Artifact(
        name, type=MODEL_TYPE, metadata={**card_metadata(bundle), **(metadata or {})}
    )
    for file in sorted(folder.iterdir()):
        artifact.add_file(str(file), policy="immutable", skip_cache=True)
    return artifact


def card_metadata(bundle: Bundle) -> dict[str, Any]:
    """Return the fields of a model card that help to choose among models, as plain JSON."""
    card = bundle.card
    return {
        "model": bundle.model_id,
        "weights_sha256": bundle.sha256,
        "architecture": card.architecture,
        "encoder": card.encoder,
        "bands": list(card.bands),
        "mean": list(card.mean),
        "std": list(card.std),
        "temperature": card.temperature,
        "threshold": card.threshold,
        "metrics": dict(card.metrics),
        "license": card.license,
    }


@contextmanager
def wandb_errors(what: str) -> Iterator[None]:
    """Turn wandb's errors into ours, with ``what`` before their text; a full disk passes through.

    Raises
    ------
    InputError
        When the key is missing, or cannot be one.
    BundleError
        When the server has no such project, model or version.
    RegistryError
        When the server cannot be reached, refuses, or fails.
    """
    import wandb

    try:
        yield
    except GeoforestError:
        raise
    except wandb.errors.UsageError as error:
        raise InputError(f"{what}: {error_text(error)}; or set WANDB_API_KEY") from error
    except wandb.errors.AuthenticationError as error:
        if "WANDB_API_KEY invalid" in str(error):
            # It never reached the server.
            raise InputError(f"{what}: {error_text(error)}") from error
        raise RegistryError(
            f"{what}: the server refuses the key or cannot be reached ({error_text(error)})"
        ) from error
    except Exception as error:  # wandb raises many kinds of errors
        if is_of_our_disk(error):
            raise
        # wandb reports a missing object by a ValueError, bare or wrapped in its own error.
        missing = isinstance(getattr(error, "exc", error), ValueError)
        kind = BundleError if missing else RegistryError
        raise kind(f"{what}: {error_text(error)}") from error


def error_text(error: BaseException) -> str:
    """Return the message of an error on one line, without the key and signatures of URLs."""
    text = " ".join(str(error).split())
    key = os.environ.get("WANDB_API_KEY")
    if key:
        text = text.replace(key, "***")
    return _SIGNATURE.sub("", text)[:_LONGEST_MESSAGE].rstrip(".")
