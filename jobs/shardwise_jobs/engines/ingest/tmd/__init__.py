"""Who gives a text its TMD codes: an LLM, the nearest labels in the embedding space, or whoever sent the chunk."""

from .base import FailureCause, TmdAnswer, TmdBackend, TmdFailure

__all__ = ["FailureCause", "TmdAnswer", "TmdBackend", "TmdFailure"]
