"""Errors of geoforest. Each message names the file, what was found, and what was wanted."""

from __future__ import annotations

import difflib
import re
import unicodedata
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel, ValidationError

Settings = TypeVar("Settings", bound="BaseModel")

_USER = re.compile(r"://(?:[^/@\s]*:[^@\s]*|[^/@\s]*)@")
_QUERY = re.compile(r"""(://[^?\s'")]*)\?[^\s'")]*?(?=[:;,.]*(?:[\s'")]|$))""")


def without_keys(text: str) -> str:
    """Remove passwords and queries, which may hold keys, from the URLs in a text."""
    return _QUERY.sub(r"\1", _USER.sub("://", text))


class GeoforestError(Exception):
    """Base class of all errors that geoforest raises on purpose. The command line exits with 1.

    Examples
    --------
    Passwords and queries, which may hold keys, are removed from URLs in the message.

    >>> print(GeoforestError("https://me:word@host/a.tif?sig=abc: not found ('s3://b/k?x')"))
    https://host/a.tif: not found ('s3://b/k')
    """

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(without_keys(message))


class InputError(GeoforestError, ValueError):
    """An input or option cannot be used. The command line exits with 2."""

    exit_code = 2


class SceneError(InputError):
    """A scene cannot be used: missing, not a raster, wrong bands, grid or CRS."""


class BundleError(InputError):
    """A model bundle is missing, damaged, of another version, or unsafe to load."""


class OutputError(InputError):
    """The output folder cannot be used: not writable, locked, or holding another job."""


class DataError(InputError):
    """Labelled chips cannot be used: unpaired files, wrong shapes, strange codes."""


class AccessError(DataError):
    """A store could not be reached: no network, no permission, a failure of the server.

    Another try may help, unlike with other data errors.
    """


class ReadError(GeoforestError):
    """A block of pixels could not be read after the job had begun."""


class WriteError(GeoforestError):
    """A product could not be written completely: a full disk, a lost file system."""


class FetchError(GeoforestError):
    """A download failed. Received bytes are kept, and the same command continues from there.

    ``status`` is that of the server's answer, where there is one.
    """

    status: int | None = None


class RegistryError(GeoforestError):
    """A model cannot be fetched or stored: no network, a refused key, a failure of the server."""


class IncompleteError(GeoforestError):
    """Some shards failed for good. Finished shards are kept for the next run."""


class GeoforestWarning(UserWarning):
    """Warning to the user; the job continues."""


def first_fault(error: ValidationError, whole: str) -> str:
    """Describe the first error in one sentence: its field, or ``whole`` for the whole input."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or whole}: {first['msg']}"


def checked(kind: type[Settings], settings: dict[str, Any]) -> Settings:
    """Build settings from keywords.

    Raises
    ------
    InputError
        When a setting cannot be used; the message names the first one.
    """
    from pydantic import ValidationError

    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        reason = first["msg"].removeprefix("Value error, ")
        if first["loc"]:
            reason = f"{first['loc'][0]} = {first.get('input')!r}: {reason}"
        raise InputError(reason) from error


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'name'?"`` for the known name most like a given one, or ``""``.

    Examples
    --------
    >>> did_you_mean("NOME", ["codigo", "nome"])
    "; did you mean 'nome'?"
    """
    by_letters = {_letters(name): name for name in known}
    like = difflib.get_close_matches(_letters(given), by_letters, n=1)
    return f"; did you mean {by_letters[like[0]]!r}?" if like else ""


def _letters(name: str) -> str:
    """Return a name without accents, case, spaces and underscores."""
    plain = unicodedata.normalize("NFKD", name)
    return "".join(one for one in plain if one.isalnum()).casefold()
