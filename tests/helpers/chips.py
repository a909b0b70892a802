"""Chips that are uploaded, rewritten and spoilt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers import synthetic


def upload(client: Any, data: Path) -> str:
    prefix = data.parent.name
    for path in data.rglob("*.tif"):
        client.upload_file(str(path), "chips", f"{prefix}/{path.relative_to(data)}")
    return f"s3://chips/{prefix}"


def rewrite(path: Path, values: np.ndarray, **profile: object) -> None:
    synthetic.write_raster(path, values, descriptions=None, **profile)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3000])
