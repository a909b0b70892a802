"""One family of errors. Each message says which file, what was found, and what was wanted."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

Settings = TypeVar("Settings", bound="BaseModel")

_USER = re.compile(r"://(?:[^/@\s]*:[^@\s]*|[^/@\s]*)@")
_QUERY = re.compile(r"""(://[^?\s'")]*)\?[^\s'")]*?(?=[:;,.]*(?:[\s'")]|$))""")


class GeoforestError(Exception):
    """Base of every error that geoforest raises on purpose. The command line exits with 1.

    Examples
    --------
    URLs lose what may be a key, whoever put them into the sentence.

    >>> print(GeoforestError("https://me:word@host/a.tif?sig=abc: not found ('s3://b/k?x')"))
    https://host/a.tif: not found ('s3://b/k')
    """

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(_QUERY.sub(r"\1", _USER.sub("://", message)))


class InputError(GeoforestError, ValueError):
    """The user gave something that cannot be used. The command line exits with 2."""

    exit_code = 2


class SceneError(InputError):
    """A scene cannot be read as asked: missing, not a raster, wrong bands, grid or CRS."""


class BundleError(InputError):
    """A model bundle is missing, damaged, of another version, or not safe to load."""


class OutputError(InputError):
    """The output folder cannot be used: not writable, locked, or holding another job."""


class DataError(InputError):
    """Labelled chips cannot be used: unpaired files, wrong shapes, strange codes."""


class AccessError(DataError):
    """A store could not be asked: no network, no permission, a server's failure.

    Another try may help, which it does not with data that are wrong themselves.
    """


class ReadError(GeoforestError):
    """A pixel block of a scene turned out unreadable after the job had begun."""


class WriteError(GeoforestError):
    """A product could not be written whole: a full disk, a lost file system."""


class FetchError(GeoforestError):
    """A download failed. What was received is kept, and the same command goes on from there."""


class RegistryError(GeoforestError):
    """A model cannot be fetched or stored: no network, a refused key, a server's failure."""


class IncompleteError(GeoforestError):
    """Some shards failed for good. Those that finished are kept for the next run."""


class GeoforestWarning(UserWarning):
    """Something the user should know about, although the job goes on."""


def first_fault(error: ValidationError, whole: str) -> str:
    """Tell in one sentence what is wrong first: where it stands, or ``whole`` for all of it."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or whole}: {first['msg']}"


def checked(kind: type[Settings], settings: dict[str, Any]) -> Settings:
    """Make settings of plain keywords.

    Raises
    ------
    InputError
        With the first setting that cannot be used.
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
