"""Faults of geoforest itself: a sentence for the user, and the details in a file."""

from __future__ import annotations

import os
import platform
import re
import shlex
import sys
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path

from geoforest._version import __version__
from geoforest.errors import without_keys
from geoforest.io.cache import cache_folder

EXIT_CODE = 70
"""Exit code of a fault of the program itself, as in ``sysexits.h``."""
_SECRET = re.compile(
    r"KEY|SECRET|TOKEN|PASS|CREDENTIAL|SIGNATURE|AUTH|COOKIE|HEADERS", re.IGNORECASE
)
_SHORTEST_SECRET = 6
_LONGEST = 300


def tell_fault(error: BaseException) -> None:
    """Print one sentence about an error that is none of geoforest's own, and where details are."""
    reason = " ".join(_scrubbed(str(error)).split())[:_LONGEST]
    kind = type(error).__name__
    what = f"{kind}: {reason}" if reason else kind
    details = _details(error)
    path = _kept(details)
    where = f"the details are in {path}" if path else "the details follow"
    print(f"geoforest: an error that geoforest did not expect ({what}); {where}", file=sys.stderr)
    if path is None:
        print(details, file=sys.stderr)


def _details(error: BaseException) -> str:
    lines = [
        f"geoforest {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC, in {Path.cwd()}",
        shlex.join(["geoforest", *sys.argv[1:]]),
        "",
        *traceback.format_exception(error),
    ]
    return _scrubbed("\n".join(lines))


def _scrubbed(text: str) -> str:
    """Remove keys: those in URLs, and the values of variables that are named like one."""
    text = without_keys(text)
    for name, value in os.environ.items():
        if _SECRET.search(name) and len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, f"<{name}>")
    return text


def _kept(details: str) -> Path | None:
    """Write details where only the user can read them; None where no folder can be written to."""
    name = f"geoforest-fault-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.log"
    for folder in (cache_folder() / "faults", Path(tempfile.gettempdir())):
        path = (folder / name).absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as handle:
                handle.write(details)
        except OSError:
            continue
        return path
    return None
