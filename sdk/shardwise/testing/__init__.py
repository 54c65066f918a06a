"""What an engine is tested with; needs pytest."""

from __future__ import annotations

from .contract import EngineContract

__all__ = ["EngineContract"]
