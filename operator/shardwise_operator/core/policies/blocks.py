"""Shards that work in blocks, each by itself: patterns, and engines of packages. What is committed only grows."""

from __future__ import annotations

from shardwise_api.common import SecretKeyRef
from shardwise_api.kato import KatoEngine
from shardwise_api.runs import Run

from .base import Policy


class BlocksPolicy(Policy):
    """See `Policy`, whose defaults are for such work."""

    def __init__(self, run: Run, *, patterns: KatoEngine | None = None) -> None:
        super().__init__(run)
        self._patterns = patterns

    @property
    def store_secret(self) -> SecretKeyRef | None:
        """See `Policy.store_secret`."""
        store = None if self._patterns is None else self._patterns.store
        return None if store is None else store.secret_ref
