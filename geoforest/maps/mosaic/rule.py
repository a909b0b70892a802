"""Rules for pixels that several maps observed. The command line imports this, so it is light."""

from __future__ import annotations

from typing import Literal

MosaicRule = Literal["mean", "latest", "clearest"]
"""Value of a pixel that several maps observed: the mean, or that of one map."""
