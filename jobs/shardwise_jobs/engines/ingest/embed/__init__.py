"""From text to vectors: one interface, a small model without torch, and any sentence-transformers model."""

from .base import Embedder

__all__ = ["Embedder"]
