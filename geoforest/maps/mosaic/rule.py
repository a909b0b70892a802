"""What a pixel becomes that several maps saw. Imports nothing: the command line starts with it."""

from __future__ import annotations

from typing import Literal

MosaicRule = Literal["mean", "latest", "clearest"]
"""What a pixel becomes that several maps saw."""
