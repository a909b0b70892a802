"""What the file of an offline run of wandb holds."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any


def records(folder: Path) -> list[Any]:
    """Read a run's file: records of protobuf in the log format of LevelDB."""
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    # The last of it is written when wandb's process ends.
    wandb.teardown()
    (path,) = folder.glob("*.wandb")
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    found, parts, offset = [], b"", 7
    while offset + 7 <= len(data):
        # A block is padded where no header has room.
        if (room := 32768 - offset % 32768) < 7:
            offset += room
        _, length, kind = struct.unpack_from("<IHB", data, offset)
        parts += data[offset + 7 : offset + 7 + length]
        offset += 7 + length
        if kind in (1, 4):  # the whole, or the end
            found.append(Record.FromString(parts))
            parts = b""
    return found


def of_kind(folder: Path, kind: str) -> list[Any]:
    return [getattr(one, kind) for one in records(folder) if one.WhichOneof("record_type") == kind]


def values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
