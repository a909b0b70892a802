"""Names of the architectures and encoders of networks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Architecture = Literal["Unet", "UnetFullResolution"]
Encoder = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$", max_length=100)]
"""Name of an encoder in smp, without ``:`` and ``/``, which would load from hubs and folders."""
