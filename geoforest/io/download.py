"""Large files over HTTP: received in several attempts, and verified at the end."""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from geoforest._version import __version__
from geoforest.errors import FetchError, InputError, WriteError
from geoforest.io.certificates import certificate_problem, tls_context
from geoforest.io.endpoint import is_http
from geoforest.io.files import without_secrets
from geoforest.io.reach import refuse_inward
from geoforest.io.storage import require_space
from geoforest.types import Progress, quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_Result = TypeVar("_Result")

RETRIES: Final = 6
_BLOCK: Final = 1 << 16
_TIMEOUT_S: Final = 30.0
_WAIT_S = 0.5
_MAX_WAIT_S: Final = 30.0
_MAX_DOCUMENT: Final = 16 << 20
# The server or a proxy is busy, and may answer later.
_PASSING: Final = {408, 425, 429, 500, 502, 503, 504}
_MEANINGS: Final = {
    401: ": credentials are needed",
    403: ": access denied, or a signed URL that has expired",
    404: ": no such file",
}
_REDIRECT: Final = ": endless redirects, or one to another protocol than http and https"
_DIGESTS: Final = {"md5", "sha256"}


@dataclass(frozen=True)
class RemoteFile:
    """File on a server, with its published size and checksum.

    Attributes
    ----------
    url
        URL of ``http`` or ``https``.
    size
        In bytes, or None.
    checksum
        Such as ``md5:d41d8cd9...``, or None.
    """

    url: str
    size: int | None = None
    checksum: str | None = None

    def __str__(self) -> str:
        return without_secrets(self.url)


class _LostError(Exception):
    """The connection broke or the server was busy: another attempt may succeed."""


class _RangeError(_LostError):
    """The server cannot send the rest of the file: the next attempt starts over."""


class _HttpOnly(HTTPRedirectHandler):
    """Handler that follows redirects to ``http`` and ``https`` only; urllib follows others too."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        if not is_http(newurl):
            raise HTTPError(req.full_url, code, msg, headers, fp)
        refuse_inward(newurl, req.full_url)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch_json(url: str, *, retries: int = RETRIES) -> Any:
    """Fetch a JSON document of at most 16 MiB.

    Raises
    ------
    InputError
        When ``url`` is not ``http`` or ``https``.
    FetchError
        When it cannot be fetched after ``retries`` further attempts, or is not JSON.
    """

    def attempt() -> bytes:
        data = bytearray()
        with _ask(url) as response:
            for block in _blocks(response):
                data += block
                if len(data) > _MAX_DOCUMENT:
                    raise FetchError(f"{without_secrets(url)}: too long for a JSON document")
        return bytes(data)

    data = _with_retries(attempt, url, retries=retries, received=lambda: 0)
    try:
        return json.loads(data)
    except ValueError as error:
        raise FetchError(f"{without_secrets(url)}: what comes back is not JSON") from error


def ask_version(url: str, *, retries: int = RETRIES) -> tuple[int, str]:
    """Ask a server for the size of a file, and its ETag or time of last modification.

    It requests the first byte, because a signed URL may not allow ``HEAD``.

    Raises
    ------
    InputError
        When ``url`` is not ``http`` or ``https``.
    FetchError
        When the server cannot be reached or refuses, or does not send parts of files.
    """

    def attempt() -> tuple[int, str]:
        try:
            with _ask(url, {"Range": "bytes=0-0"}) as response:
                total = re.fullmatch(r"bytes 0-0/(\d+)", response.headers.get("Content-Range", ""))
                if response.status != 206 or total is None:
                    raise FetchError(
                        f"{without_secrets(url)}: the server does not send parts of files; "
                        "download it first"
                    )
                tag = response.headers.get("ETag") or response.headers.get("Last-Modified")
                return int(total[1]), tag or ""
        except _RangeError as error:
            raise FetchError(f"{without_secrets(url)}: is empty") from error

    remedy = "is the address right, and the network there?"
    return _with_retries(attempt, url, retries=retries, received=lambda: 0, remedy=remedy)


def read_start(url: str, n_bytes: int, *, retries: int = RETRIES) -> bytes:
    """Read the first bytes of a file on a server.

    Raises
    ------
    InputError
        When ``url`` is not ``http`` or ``https``.
    FetchError
        When the server cannot be reached or refuses.
    """

    def attempt() -> bytes:
        with _ask(url, {"Range": f"bytes=0-{n_bytes - 1}"}) as response:
            return next(_blocks(response), b"")[:n_bytes]

    remedy = "is the address right, and the network there?"
    return _with_retries(attempt, url, retries=retries, received=lambda: 0, remedy=remedy)


def download(
    remote: RemoteFile,
    partial: Path,
    *,
    retries: int = RETRIES,
    progress: Progress = quiet,
) -> None:
    """Receive a file, continuing from the bytes of an earlier run, and verify it.

    Parameters
    ----------
    remote
        The file; size and checksum are verified if known.
    partial
        File for the bytes; a file beside it keeps the ETag of their version.
    retries
        Further attempts without a new byte, at growing intervals, before it gives up.
    progress
        Called with ``"download"``, received bytes and total bytes.

    Raises
    ------
    InputError
        When the URL is not ``http`` or ``https``.
    OutputError
        When the disk is too small.
    FetchError
        When the server cannot be reached, refuses, or sends other content. Received bytes of the
        right file are kept.
    WriteError
        When the disk is full.
    """
    if remote.size is not None:
        require_space(partial.parent, remote.size - _size(partial))
    _with_retries(
        lambda: _receive(remote, partial, progress),
        remote.url,
        retries=retries,
        received=lambda: _size(partial),
    )
    _verify(remote, partial)


def _with_retries(
    attempt: Callable[[], _Result],
    url: str,
    *,
    retries: int,
    received: Callable[[], int],
    remedy: str = "run the same command again later: it goes on from what was received",
) -> _Result:
    """Repeat an attempt until it works, or ``retries`` more in a row received nothing new."""
    if not is_http(url):
        raise InputError(f"{without_secrets(url)}: a URL of http or https was wanted")
    failures, most = 0, received()
    while True:
        try:
            return attempt()
        except _LostError as error:
            if received() > most:
                failures, most = 0, received()
            if failures == retries:
                raise FetchError(f"{without_secrets(url)}: {error}; {remedy}") from error
            time.sleep(min(_WAIT_S * 2**failures, _MAX_WAIT_S))
            failures += 1


def _ask(url: str, headers: Mapping[str, str] | None = None) -> HTTPResponse:
    request = Request(url, headers={"User-Agent": f"geoforest/{__version__}", **(headers or {})})
    try:
        opener = build_opener(_HttpOnly, HTTPSHandler(context=tls_context()))
        response: HTTPResponse = opener.open(request, timeout=_TIMEOUT_S)
    except HTTPError as error:
        error.close()
        if error.code == 416:
            raise _RangeError("the server does not have the rest of the file") from error
        if error.code in _PASSING:
            raise _LostError(f"the server answers {error.code}") from error
        meaning = _REDIRECT if 300 <= error.code < 400 else _MEANINGS.get(error.code, "")
        refused = FetchError(f"{without_secrets(url)}: the server answers {error.code}{meaning}")
        refused.status = error.code
        raise refused from error
    except (HTTPException, OSError) as error:
        if problem := certificate_problem(error):
            raise FetchError(f"{without_secrets(url)}: {problem}") from error
        raise _LostError(f"the server cannot be reached ({_reason(error)})") from error
    return response


def _blocks(response: HTTPResponse) -> Iterator[bytes]:
    """Yield the body in blocks; raise when it is shorter than announced."""
    try:
        while block := response.read1(_BLOCK):
            yield block
    except (HTTPException, OSError) as error:
        raise _LostError(f"the connection was lost ({_reason(error)})") from error
    if response.length:
        raise _LostError(f"the connection was cut {response.length:,} bytes before the end")


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", error)
    return getattr(inner, "strerror", None) or type(inner).__name__


def _receive(remote: RemoteFile, partial: Path, progress: Progress) -> None:
    """Request the missing bytes once, and append them."""
    tag = _tag_file(partial).read_text() if _tag_file(partial).exists() else ""
    have = _size(partial)
    if not (tag or remote.checksum) or (remote.size is not None and have > remote.size):
        # Neither ETag nor checksum: the rest could be of another version.
        have = 0
    if have and have == remote.size:
        return
    headers = {"Range": f"bytes={have}-"} if have else {}
    if have and tag:
        headers["If-Range"] = tag
    try:
        with _ask(remote.url, headers) as response:
            start = _start(response, have, tag)
            _append(remote, partial, response, start, progress)
    except _RangeError:
        _discard(partial)
        raise


def _start(response: HTTPResponse, have: int, tag: str) -> int:
    """Return the first byte of the response: 0 when the server sends the whole file."""
    if response.status != 206:
        return 0
    place = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    # Some servers follow Range and ignore If-Range.
    changed = bool(tag) and response.headers.get("ETag", tag) != tag
    if place is None or int(place[1]) != have or changed:
        raise _RangeError("the server does not send the rest of the file")
    return have


def _append(
    remote: RemoteFile, partial: Path, response: HTTPResponse, start: int, progress: Progress
) -> None:
    total = None if response.length is None else start + response.length
    if total is not None and remote.size not in (None, total):
        _discard(partial)
        raise FetchError(f"{remote}: the server has {total} bytes, {remote.size} were announced")
    done = start
    try:
        with partial.open("ab" if start else "wb") as target:
            if not start:
                # Only after the old part is truncated: the tag must not describe its bytes.
                _remember_tag(partial, response)
            for block in _blocks(response):
                target.write(block)
                # So that a killed run leaves all received bytes.
                target.flush()
                done += len(block)
                if remote.size is not None and done > remote.size:
                    break
                progress("download", done, remote.size or total or done)
    except OSError as error:
        raise WriteError(f"{partial}: cannot be written ({error.strerror or error})") from error


def _remember_tag(partial: Path, response: HTTPResponse) -> None:
    tag = response.headers.get("ETag", "")
    # A weak ETag does not promise equal bytes.
    _tag_file(partial).write_text("" if tag.startswith("W/") else tag)


def _verify(remote: RemoteFile, partial: Path) -> None:
    wanted = remote.checksum or ""
    algorithm = wanted.partition(":")[0]
    problem = None
    if remote.size is not None and _size(partial) != remote.size:
        problem = f"{_size(partial)} bytes came, {remote.size} were announced"
    elif algorithm in _DIGESTS:
        with partial.open("rb") as handle:
            found = f"{algorithm}:{hashlib.file_digest(handle, algorithm).hexdigest()}"
        if found != wanted.lower():
            problem = f"its checksum is {found}, {wanted} was announced"
    if problem:
        _discard(partial)
        raise FetchError(f"{remote}: {problem}; run the same command again: it starts over")


def _size(partial: Path) -> int:
    return partial.stat().st_size if partial.exists() else 0


def _tag_file(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.etag")


def _discard(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    _tag_file(partial).unlink(missing_ok=True)
