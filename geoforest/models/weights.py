"""Weights in the safetensors format, checked without torch: header, layout, and numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of each tensor, by name."""

# Limits of the safetensors format.
PREFIX_BYTES: Final = 8
_MAX_HEADER_BYTES: Final = 100_000_000
_CHUNK_BYTES: Final = 1 << 20
_MAX_SIDES: Final = 16
# Bytes per number of the types that networks have. For floating-point types also an integer type
# of that size, and the bits of the exponent: when all are set, a number is NaN or infinite.
_BYTES: Final = {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_EXPONENTS: Final = {
    "F64": ("<u8", 0x7FF0_0000_0000_0000),
    "F32": ("<u4", 0x7F80_0000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
}


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a safetensors file: its type, its shape, and where its bytes begin and end."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def is_sound(self) -> bool:
        """Whether type and shape give just the bytes that the tensor has."""
        size = _BYTES.get(self.dtype) or (
            np.dtype(_EXPONENTS[self.dtype][0]).itemsize if self.dtype in _EXPONENTS else None
        )
        return size is not None and math.prod(self.shape) * size == self.end - self.begin


@dataclass(frozen=True)
class Header:
    """Header of a safetensors file.

    Attributes
    ----------
    data
        Its bytes, with the eight that tell its length.
    tensors
        Tensors by name, in the order of their bytes.
    """

    data: bytes
    tensors: dict[str, StoredTensor]

    @property
    def end(self) -> int:
        """Bytes of the whole file."""
        return len(self.data) + max(tensor.end for tensor in self.tensors.values())

    @property
    def shapes(self) -> Shapes:
        """Shape of each tensor, by name."""
        return {name: tensor.shape for name, tensor in self.tensors.items()}


def read_header(prefix: bytes, stream: IO[bytes], size: int) -> Header | None:
    """Read the header of a safetensors file; None when it has none.

    Parameters
    ----------
    prefix
        First eight bytes of the file.
    stream
        The file after them.
    size
        Bytes of the whole file.
    """
    length = int.from_bytes(prefix, "little")
    if length > min(_MAX_HEADER_BYTES, size):
        return None
    data = stream.read(length)
    raw = parse_object(data)
    if raw is None:
        return None
    raw.pop("__metadata__", None)
    try:
        tensors = {
            name: StoredTensor(
                str(item["dtype"]), tuple(map(int, item["shape"])), *map(int, item["data_offsets"])
            )
            for name, item in raw.items()
        }
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        return None
    if not tensors or any(len(tensor.shape) > _MAX_SIDES for tensor in tensors.values()):
        return None
    return Header(
        prefix + data, dict(sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)))
    )


def parse_object(data: bytes) -> dict[str, Any] | None:
    """Parse a JSON object; None when ``data`` is none."""
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return raw if isinstance(raw, dict) else None


def layout_fault(header: Header) -> str | None:
    """Say which tensor has no sound type, shape or place; None when all have."""
    expected = 0
    for name, tensor in header.tensors.items():
        if tensor.begin != expected or min(tensor.shape, default=0) < 0 or not tensor.is_sound:
            return f"tensor {name[:100]!r} of type {tensor.dtype[:20]} is not laid out as it says"
        expected = tensor.end
    return None


def read_numbers(header: Header, stream: IO[bytes], each: Callable[[bytes], object]) -> str | None:
    """Read all tensors once; return the name of the first that holds NaN or infinity, or None.

    Parameters
    ----------
    header
        The header, whose layout is sound.
    stream
        The file after the header; it is read to its end.
    each
        Called with the bytes in order.
    """
    wrong: str | None = None
    for name, tensor in header.tensors.items():
        left = tensor.end - tensor.begin
        exponent = _EXPONENTS.get(tensor.dtype)
        while left and (chunk := stream.read(min(left, _CHUNK_BYTES))):
            each(chunk)
            left -= len(chunk)
            if exponent is not None and wrong is None and _has_exponent(chunk, *exponent):
                wrong = name
    while chunk := stream.read(_CHUNK_BYTES):
        each(chunk)
    return wrong


def _has_exponent(chunk: bytes, dtype: str, bits: int) -> bool:
    # A file that is cut while it is read may end within a number.
    whole = len(chunk) - len(chunk) % np.dtype(dtype).itemsize
    numbers = np.frombuffer(chunk[:whole], dtype)
    return bool(((numbers & numbers.dtype.type(bits)) == bits).any())


def shape_fault(found: Shapes, wanted: Shapes) -> str | None:
    """Say in what the tensors of a file differ from those of a network; None when in nothing.

    Counters of batches may be absent, as in files of old versions of torch.
    """
    missing = [
        name for name in wanted if name not in found and not name.endswith("num_batches_tracked")
    ]
    other = [name for name in found if name in wanted and found[name] != wanted[name]]
    foreign = [name for name in found if name not in wanted]
    facts = []
    if other:
        name = other[0]
        facts.append(
            f"{_have(other)} another shape, such as {name} with {_sides(found[name])} where "
            f"{_sides(wanted[name])} was wanted"
        )
    if missing:
        facts.append(f"it lacks {len(missing)}, such as {missing[0]}")
    if foreign:
        facts.append(f"{_have(foreign)} no place in it, such as {foreign[0][:100]}")
    return "; ".join(facts) or None


def _have(names: list[str]) -> str:
    return f"{len(names)} of its tensors {'has' if len(names) == 1 else 'have'}"


def _sides(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"
