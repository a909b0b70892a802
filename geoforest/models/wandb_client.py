"""The client of Weights & Biases: imported when it is wanted, quiet, and with our errors.

The key comes from ``WANDB_API_KEY`` or from what ``wandb login`` stored. Nothing here reads it, but
that of the environment to keep it out of messages.
"""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoforest.errors import BundleError, GeoforestError, InputError, RegistryError
from geoforest.io.storage import is_of_our_disk
from geoforest.models.copies import copy_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import wandb
    from wandb.sdk.wandb_run import Run

    from geoforest.models.bundle import Bundle

MODEL_TYPE = "model"
# From the query of a URL on.
_SIGNATURE = re.compile(r"(?<=\w)\?\S*[=&]\S*")
_LONGEST_MESSAGE = 300
_RETRIES = 2
_TIMEOUT_S = 15.0
_FINISH_TIMEOUT_S = 600.0


def silence_wandb() -> None:
    """Import wandb, and keep it from printing and from asking for a key on the terminal.

    Raises
    ------
    InputError
        When it is not installed.
    """
    try:
        import wandb
    except ImportError as error:
        raise InputError(
            "Weights & Biases needs an extra: pip install 'geoforest[wandb]'"
        ) from error
    wandb.setup(settings=wandb.Settings(silent=True))


def is_offline() -> bool:
    """Whether the user has told wandb to leave its server alone."""
    return os.environ.get("WANDB_MODE") in ("offline", "dryrun", "disabled")


def connect(what: str) -> wandb.Api:
    """Connect to the server, for ``what``; the key is verified.

    Raises
    ------
    InputError
        When there is no key, or wandb is offline.
    RegistryError
        When the server cannot be reached, or refuses the key.
    """
    import wandb

    if is_offline():
        raise InputError(f"{what}: needs its server, and WANDB_MODE says not to use it")
    settings = wandb.setup().settings
    retries, timeout = settings.x_graphql_retry_max, settings.x_graphql_timeout_seconds
    # By default the client tries again for many minutes, and this process may not end before.
    settings.x_graphql_retry_max = retries or _RETRIES
    settings.x_graphql_timeout_seconds = timeout or _TIMEOUT_S
    try:
        with one_sentence(what):
            return wandb.Api()
    finally:
        settings.x_graphql_retry_max = retries
        settings.x_graphql_timeout_seconds = timeout


def run_settings() -> wandb.Settings:
    """Build the settings of all our runs: they record what they are given, and nothing else."""
    import wandb

    return wandb.Settings(
        silent=True,
        # By default the end of a run waits for its server for ever.
        finish_timeout=wandb.setup().settings.finish_timeout or _FINISH_TIMEOUT_S,
        finish_timeout_raises=True,
        console="off",
        save_code=False,
        disable_git=True,
        # It would hold the command line, where the URL of the data may be signed.
        x_disable_meta=True,
        # A run of the user's own in this process is not ours to go on with.
        reinit="create_new",
    )


def model_artifact(
    run: Run, bundle: Bundle, name: str, metadata: Mapping[str, Any] | None = None
) -> wandb.Artifact:
    """Make an artifact of a bundle, which is copied into the run's own folder.

    So an offline run has all that it needs, wherever the bundle goes.

    Parameters
    ----------
    run
        That is to log it.
    bundle
        A folder or a zip file.
    name
        Of the artifact.
    metadata
        Added to what is essential in the card; plain JSON.
    """
    import wandb

    folder = Path(tempfile.mkdtemp(prefix="model-", dir=Path(run.dir).parent))
    copy_bundle(bundle, folder)
    artifact = wandb.Artifact(
        name, type=MODEL_TYPE, metadata={**essentials(bundle), **(metadata or {})}
    )
    for file in sorted(folder.iterdir()):
        artifact.add_file(str(file), policy="immutable", skip_cache=True)
    return artifact


def essentials(bundle: Bundle) -> dict[str, Any]:
    """Pick from a card what helps to choose among models, as plain JSON."""
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
def one_sentence(what: str) -> Iterator[None]:
    """Turn what wandb raises into our errors; a full disk is none of wandb's.

    Raises
    ------
    InputError
        When there is no key.
    BundleError
        When the client does not find what was asked for.
    RegistryError
        When the server cannot be reached, refuses, or fails.
    """
    import wandb

    try:
        yield
    except GeoforestError:
        raise
    except wandb.errors.UsageError as error:
        raise InputError(f"{what}: {told(error)}; or set WANDB_API_KEY") from error
    except wandb.errors.AuthenticationError as error:
        raise RegistryError(
            f"{what}: the server refuses the key or cannot be reached ({told(error)})"
        ) from error
    except Exception as error:  # wandb raises many kinds
        if is_of_our_disk(error):
            raise
        # What it does not find is a ValueError, alone or within its own.
        missing = isinstance(getattr(error, "exc", error), ValueError)
        raise (BundleError if missing else RegistryError)(f"{what}: {told(error)}") from error


def told(error: BaseException) -> str:
    """Tell what an error says, in one line, without the key and without what signs a URL."""
    text = " ".join(str(error).split())
    key = os.environ.get("WANDB_API_KEY")
    if key:
        text = text.replace(key, "***")
    return _SIGNATURE.sub("", text)[:_LONGEST_MESSAGE].rstrip(".")
