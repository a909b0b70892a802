"""The version of the package, and nothing else: whatever writes it imports no more than this."""

from __future__ import annotations

__version__ = "0.1.0"
