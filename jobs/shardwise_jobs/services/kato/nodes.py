"""What sessions of one node share: its patterns (in the store), a copy of them for predictions, and its genes.

Training never waits here: as long as nobody predicts on a node, learning goes straight to the store. Once somebody
does, learning keeps the copy current instead of making the next prediction read everything again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from shardwise.engine.errors import WorkError
from shardwise_jobs.engines.kato.names import bare_name, processor_id
from shardwise_jobs.engines.kato.stores.base import Events, Guard, Pattern, PatternCount, PatternStore
from shardwise_jobs.services.gateway import StoreGateway

from .models import DEFAULTS, SessionConfig
from .predictions import NO_PREDICTIONS, PREDICTION_SECONDS, Predictions, TooCostly, flattened, predict
from .recall import PatternIndex

_MAX_IDLE_NODES = 10_000
_MOST_READ_AGAIN = 256
"""Reading more patterns than this one by one costs about as much as reading the node anew when it is next needed."""


class PredictionTurns:
    """How many predictions of a server are worked out at once, and for how long each."""

    def __init__(self, *, at_once: int = 4, seconds: float = PREDICTION_SECONDS) -> None:
        self.seconds = seconds
        self._patience = at_once * seconds
        # All threads share one interpreter: more at once would only slow down whoever answers the others.
        self._free = threading.BoundedSemaphore(at_once)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Wait for a turn and hold it.

        Raises:
            TooCostly: it does not come.
        """
        if not self._free.acquire(timeout=self._patience):
            raise TooCostly("too many predictions at once; try again later, or set process_predictions to false")
        try:
            yield
        finally:
            self._free.release()


class Node:
    """One knowledge base as this server sees it."""

    def __init__(
        self, *, node_id: str, service: str, gateway: StoreGateway[PatternStore], turns: PredictionTurns
    ) -> None:
        self.id = node_id
        self.processor_id = processor_id(node_id, service=service)
        self.genes = SessionConfig()
        """Defaults for sessions of this node that leave a key unset; only `POST /genes/update` changes them."""
        self._gateway = gateway
        self._turns = turns
        self._lock = threading.Lock()
        self._recall: PatternIndex | None = None

    def config(self, session: SessionConfig) -> SessionConfig:
        """Return what is in force for a session: its own keys, else the node's genes, else the defaults."""
        return session.over(self.genes.over(DEFAULTS))

    def update_genes(self, change: SessionConfig) -> None:
        """Set some genes."""
        with self._lock:
            self.genes = self.genes.updated(change)

    def learn(self, *, batch: Sequence[PatternCount], guard: Guard | None, persistence: int) -> bool:
        """Hand a batch to the store in one piece; False when its guard says that it is there already."""
        if self._recall is None:
            return self._write(batch=batch, guard=guard, persistence=persistence)
        with self._lock:
            before = self._version()
            applied = self._write(batch=batch, guard=guard, persistence=persistence)
            if applied and before == self._recall.version:
                # The batch is in the store: that it can't be read back now must not look like a failed learn.
                with suppress(WorkError):
                    self._follow(self._recall, batch=batch)
            return applied

    def _write(self, *, batch: Sequence[PatternCount], guard: Guard | None, persistence: int) -> bool:
        return self._gateway.call(
            lambda store: store.learn(node_id=self.id, batch=batch, guard=guard, persistence=persistence)
        )

    def _version(self) -> int:
        return self._gateway.call(lambda store: store.version(node_id=self.id))

    def _follow(self, recall: PatternIndex, *, batch: Sequence[PatternCount]) -> None:
        if len(batch) > _MOST_READ_AGAIN:
            return
        for learned in batch:
            pattern = self.pattern(learned.name)
            if pattern is not None:
                recall.put(pattern)
        now = self._version()
        # Versions count learns: if ours alone explain the difference, nobody else learned in between. Otherwise the
        # version stays behind, and the next prediction reads the node anew.
        if now == recall.version + sum(learned.count for learned in batch):
            recall.version = now

    def predict(self, *, stm: Events, config: SessionConfig, unknown: Mapping[str, int]) -> Predictions:
        """Return what the node's patterns make of an STM. Raises TooCostly as `predict`."""
        if sum(map(len, stm)) < 2:
            return NO_PREDICTIONS
        threshold, limit = config.recall_threshold, config.max_predictions
        assert threshold is not None
        assert limit is not None
        with self._lock:
            # Read before the patterns: learned in between, they would be read again rather than be missed.
            version = self._version()
            if self._recall is None or self._recall.version != version:
                self._recall = self._gateway.call(
                    lambda store: PatternIndex(version=version, patterns=store.patterns(node_id=self.id))
                )
            snapshot = self._recall.snapshot(flattened(stm), threshold=threshold)
        # Without the lock: a long prediction keeps nobody else of the node waiting.
        with self._turns.one():
            return predict(
                recall=snapshot, stm=stm, threshold=threshold, limit=limit, unknown=unknown, seconds=self._turns.seconds
            )

    def pattern(self, name: str) -> Pattern | None:
        """Return one pattern by its wire or bare name."""
        return self._gateway.call(lambda store: store.pattern(node_id=self.id, name=bare_name(name)))

    def clear(self) -> None:
        """Forget everything the node ever learned."""
        with self._lock:
            self._gateway.call(lambda store: store.clear(node_id=self.id))
            self._recall = None

    def release(self) -> None:
        """Drop the copy of the patterns: no session is left to predict."""
        with self._lock:
            self._recall = None

    @property
    def predicts(self) -> bool:
        """Return whether a copy of the patterns is held."""
        return self._recall is not None


class Nodes:
    """All nodes that this server has met, made on first sight."""

    def __init__(self, make: Callable[[str], Node]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._nodes: dict[str, Node] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, node_id: str) -> Node:
        """Return a node."""
        node = self._nodes.get(node_id)
        if node is None:
            with self._lock:
                node = self._nodes.setdefault(node_id, self._make(node_id))
        return node

    def release_idle(self, *, in_use: set[str]) -> None:
        """Give back what nodes without sessions hold; genes stay, for a bounded number of nodes."""
        with self._lock:
            idle = [node for node in self._nodes.values() if node.id not in in_use]
            for node in idle:
                if node.genes == SessionConfig():
                    del self._nodes[node.id]
            with_genes = [node for node in idle if node.id in self._nodes]
            for node in with_genes[: max(len(with_genes) - _MAX_IDLE_NODES, 0)]:
                del self._nodes[node.id]
        for node in with_genes:
            if node.predicts:
                node.release()
