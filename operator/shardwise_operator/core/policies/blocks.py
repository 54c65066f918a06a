"""Shards that work in blocks, each by itself: patterns, and engines of packages. What is committed only grows."""

from __future__ import annotations

from shardwise_api.common import SecretKeyRef
from shardwise_api.kato import KatoEngine
from shardwise_api.runs import PluginEngine, Run
from shardwise_api.sharding import shard_items
from shardwise_api.wire import PrepareResult

from .base import Policy, Share


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


class PluginPolicy(Policy):
    """An engine of a package: its blocks are numbered over the whole input, and dealt to shards as a whole."""

    shows_metrics = True
    progress_unit = "items"

    def __init__(self, run: Run, plugin: PluginEngine) -> None:
        super().__init__(run)
        self._plugin = plugin

    @property
    def engine(self) -> str:
        """See `Policy.engine`."""
        return f"{self._plugin.name} (plugin)"

    def identity(self, prepared: PrepareResult) -> dict[str, object]:
        """See `Policy.identity`: the number of shards may change."""
        fields = super().identity(prepared)
        del fields["spec.sharding.shards"]
        return fields

    def share(self, shard: int, *, total: int) -> Share:
        """See `Policy.share`."""
        sharding, size = self.run.spec.sharding, self.run.spec.block_size
        count = -(-total // size)
        blocks = shard_items(strategy=sharding.strategy, shards=sharding.shards, shard=shard, total=count)
        if not blocks:
            return Share(items=0, blocks=0, ends=None)
        # The last block of the input may be a short one.
        items = len(blocks) * size - (count * size - total if blocks[-1] == count - 1 else 0)
        return Share(items=items, blocks=len(blocks), ends=(blocks[0] * size, min((blocks[-1] + 1) * size, total) - 1))
