"""Damaged files, made from sound ones by a seed, and what comes of reading them.

``python -m tests.helpers.mutations FOLDER N MODULE:FUNCTION...`` calls each function, which writes
a sound file and gives its path, the part of it to damage, and how to read it; then it reads N
damaged copies. It ends with 1, and a list, when one ends in anything but an error of geoforest.
"""

from __future__ import annotations

import importlib
import json
import random
import resource
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from geoforest.errors import GeoforestError

ROOT = Path(__file__).parents[2]
_MEMORY = 8 << 30
_MAX_MESSAGE = 600
_NUMBERS = (b"0", b"-1", b"1e999", b"99999999999999999999", b'"x"', b"null", b"[]", b"{}", b"NaN")


@dataclass(frozen=True)
class Target:
    """A sound file, and how to read it.

    Attributes
    ----------
    path
        The file; its damaged copies take its place.
    read
        Reads it.
    part
        Bytes to damage, for binary files; None for texts, which are damaged by their words.
    """

    path: Path
    read: Callable[[], object]
    part: slice | None = None


def read_damaged(targets: Sequence[Callable[[Path], Target]], folder: Path, n: int) -> None:
    """Read damaged copies in a process of their own, which libraries may take down."""
    names = [f"{target.__module__}:{target.__name__}" for target in targets]
    done = subprocess.run(
        [sys.executable, "-m", __name__, folder, str(n), *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stdout[-6000:]}{done.stderr[-2000:]}"


def damaged(data: bytes, part: slice | None, rng: random.Random) -> bytes:
    """Return a damaged copy: bits, bytes or words, a piece lost, doubled or moved."""
    if part is None:
        return _damaged_text(data, rng)
    start, stop, _ = part.indices(len(data))
    copy = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        place = rng.randrange(start, stop)
        kind = rng.randrange(4)
        if kind == 0:
            copy[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            copy[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif kind == 2:
            size = rng.choice((2, 4, 8))
            copy[place : place + size] = rng.choice((b"\xff", b"\x00", b"\x7f")) * size
        else:
            copy[place : place + 4] = rng.randbytes(4)
    return bytes(copy[: len(data)]) if rng.random() < 0.95 else bytes(copy[: rng.randrange(stop)])


def _damaged_text(data: bytes, rng: random.Random) -> bytes:
    import re

    words = list(re.finditer(rb"[\w.+-]+", data))
    kind = rng.randrange(5)
    if kind == 0:
        return data[: rng.randrange(len(data))]
    one, other = rng.choice(words), rng.choice(words)
    if kind == 1:
        return data[: one.start()] + rng.choice(_NUMBERS) + data[one.end() :]
    if kind == 2:
        return data[: one.start()] + data[one.end() :]
    if kind == 3:
        return data[: one.start()] + other.group() + data[one.end() :]
    place = rng.randrange(len(data))
    return data[:place] + rng.randbytes(rng.choice((1, 3))) + data[place + 1 :]


def values_of(document: object, rng: random.Random) -> bytes:
    """Return a JSON document with one of its values replaced."""
    copy = json.loads(json.dumps(document))
    places: list[tuple[object, object]] = []

    def walk(one: object) -> None:
        items = one.items() if isinstance(one, dict) else enumerate(one)  # type: ignore[arg-type]
        for key, value in items:
            places.append((one, key))
            if isinstance(value, (dict, list)):
                walk(value)

    walk(copy)
    holder, key = rng.choice(places)
    strange = (None, True, -1, 1e308, 10**30, "", "x", "http://[", "\0", [], {}, [[]], [1, "a"])
    holder[key] = rng.choice(strange)  # type: ignore[index]
    return json.dumps(copy).encode()


def _main(target: str, folder: Path, n: int) -> int:
    module, _, name = target.partition(":")
    folder.mkdir()
    one: Target = getattr(importlib.import_module(module), name)(folder)
    one.read()
    sound = one.path.read_bytes()
    document = json.loads(sound) if one.path.suffix == ".json" else None
    wrong = 0
    for seed in range(n):
        rng = random.Random(seed)
        by_value = document is not None and rng.random() < 0.7
        data = values_of(document, rng) if by_value else damaged(sound, one.part, rng)
        one.path.unlink()
        one.path.write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                one.read()
        except GeoforestError as error:
            text = str(error)
            if "\n" in text.strip() or len(text) > _MAX_MESSAGE:
                wrong += 1
                print(f"== {name} {seed}: no one sentence: {text[:900]!r}")
        except Exception:  # noqa: BLE001 - what it looks for
            wrong += 1
            print(f"== {name} {seed}: {traceback.format_exc(limit=-6)}")
    return wrong


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    home, count, *targets = sys.argv[1:]
    found = [_main(one, Path(home, str(at)), int(count)) for at, one in enumerate(targets)]
    sys.exit(any(found))
