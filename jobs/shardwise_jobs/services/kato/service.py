"""The calls of the protocol without HTTP: each takes parsed input and returns the answer as a plain dictionary.

A call that changes a session holds it throughout, writes what it learned with one call of the store, and only then
replaces the session's memory: when the store fails, the session is as it was.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from time import monotonic
from typing import Any, TypeVar

from shardwise_jobs.engines.kato.names import bare_name, wire_name
from shardwise_jobs.engines.kato.stores import PatternStore, open_store
from shardwise_jobs.engines.kato.stores.base import Guard, StoreUnavailable
from shardwise_jobs.services.gateway import StoreGateway

from .learning import MAX_STM_EVENTS, Call, Memory
from .models import (
    ExtendedSequence,
    Observation,
    Observed,
    PlainObservation,
    PlainSequence,
    SequenceBatch,
    SequenceFlags,
    SequenceGuard,
    SessionConfig,
)
from .nodes import Node, Nodes, PredictionTurns
from .predictions import NO_PREDICTIONS
from .sessions import NoRoom, Session, Sessions, TooLarge
from .settings import Settings

VERSION = "1.0.0"
"""Version of the protocol's server, as clients of the original expect it."""

T = TypeVar("T")
Answer = dict[str, Any]


_LINES_PER_PIECE = 500


def _begun(rows: Iterator[T]) -> Iterator[T]:
    return chain([row], rows) if (row := next(rows, None)) is not None else rows


def _guard(given: SequenceGuard | None) -> Guard | None:
    return None if given is None else Guard(run=given.run, shard=given.shard, position=given.position)


class EmptyStm(Exception):
    """Learning was asked for with nothing to learn."""


def open_gateway(*, uri: str, settings: Settings) -> StoreGateway[PatternStore]:
    """Return the way to the store, as the settings say."""
    return StoreGateway(
        open_store=lambda: open_store(
            uri,
            pool_size=settings.pool_size,
            timeout_seconds=settings.request_timeout,
            bulk_size=settings.batch_size,
            service=settings.service_name,
        ),
        look=lambda store: store.version(node_id="health"),
        unavailable=StoreUnavailable,
    )


class SessionService:
    """Everything behind the routes."""

    def __init__(self, *, gateway: StoreGateway[PatternStore], settings: Settings) -> None:
        self.settings = settings
        self.gateway = gateway
        self.sessions = Sessions(
            default_ttl=settings.session_ttl,
            auto_extend=settings.session_auto_extend,
            most=settings.max_sessions,
            most_bytes=settings.session_memory_mib << 20,
        )
        turns = PredictionTurns(seconds=settings.prediction_seconds)
        self.nodes = Nodes(
            lambda node_id: Node(node_id=node_id, service=settings.service_name, gateway=gateway, turns=turns),
        )
        self.started = monotonic()
        self.requests = 0
        """Requests answered so far; counted by the HTTP shell."""

    def sweep(self) -> None:
        """Forget what nobody uses any more."""
        self.nodes.release_idle(in_use=self.sessions.sweep())

    def observe(self, session_id: str, observation: Observed) -> Answer:
        """Observe once."""
        with self.sessions.use(session_id) as session:
            node = self.nodes.get(session.node_id)
            config = node.config(session.config)
            call = Call(memory=session.memory, config=config)
            auto_learned = call.observe(observation, with_cue=bool(config.process_predictions))
            self._finish(session=session, node=node, config=config, call=call)
            return {
                "status": "okay",
                "session_id": session_id,
                "processor_id": session.node_id,
                "stm_length": len(session.memory.stm),
                "time": call.time,
                "unique_id": f"obs-{os.urandom(16).hex()}",
                "auto_learned_pattern": auto_learned,
            }

    def observe_sequence(self, session_id: str, sequence: PlainSequence | ExtendedSequence) -> Answer:
        """Observe many times in one call."""
        extended = sequence if isinstance(sequence, ExtendedSequence) else None
        guard = _guard(extended.guard) if extended else None
        with self.sessions.use(session_id) as session:
            node = self.nodes.get(session.node_id)
            config = node.config(session.config)
            call = Call(memory=session.memory, config=config)
            work = _work_through(
                call=call,
                observations=sequence.observations,
                flags=sequence,
                predicting=bool(config.process_predictions),
                marks=extended is not None,
                compact=extended is not None and extended.compact,
            )
            applied = self._finish(session=session, node=node, config=config, call=call, guard=guard)
        answer = {
            "status": "completed",
            "processor_id": session.node_id,
            **work,
            "isolated": sequence.clear_stm_between,
        }
        return answer if guard is None else answer | {"applied": applied}

    def learn_sequences(self, session_id: str, batch: SequenceBatch) -> Answer:
        """Learn many sequences of one-symbol events in one call; the STM and the predictions stay as they are."""
        guard = _guard(batch.guard)
        with self.sessions.use(session_id) as session:
            node = self.nodes.get(session.node_id)
            config = node.config(session.config)
            call = Call(memory=session.memory, config=config)
            names = [call.learn_sequence(symbols) for symbols in batch.sequences]
            applied = self._finish(session=session, node=node, config=config, call=call, guard=guard)
        answer: Answer = {"status": "learned", "session_id": session_id, "pattern_names": names}
        return answer if guard is None else answer | {"applied": applied}

    def learn(self, session_id: str) -> Answer:
        """Learn the STM."""
        with self.sessions.use(session_id) as session:
            if not session.memory.stm:
                raise EmptyStm
            node = self.nodes.get(session.node_id)
            config = node.config(session.config)
            call = Call(memory=session.memory, config=config)
            events = len(call.stm)
            name = call.learn()
            self._finish(session=session, node=node, config=config, call=call)
            learned = f"Learned pattern {name}" if name else "Learned nothing: a pattern needs two symbols,"
            return {
                "status": "learned",
                "pattern_name": name,
                "session_id": session_id,
                "processor_id": None,
                "message": f"{learned} from {events} events",
            }

    def _finish(
        self, *, session: Session, node: Node, config: SessionConfig, call: Call, guard: Guard | None = None
    ) -> bool:
        observed = call.time != session.memory.time
        applied = True
        batch = call.batch()
        memory = call.memory()
        kept = NO_PREDICTIONS if observed else session.predictions
        # Before anything is stored: who is refused for want of room may send the same again.
        self.sessions.hold(session, max(session.size, session.footprint(memory=memory, predictions=kept)))
        # A guarded call that learns nothing still moves its shard's position.
        if batch or guard is not None:
            assert config.persistence is not None
            applied = node.learn(batch=batch, guard=guard, persistence=config.persistence)
            # What is stored must not be learned again, even if predicting fails.
            session.memory = memory
        if call.cue is not None:
            kept = node.predict(stm=call.cue, config=config, unknown=call.learned_after_cue)
        try:
            self.sessions.hold(session, session.footprint(memory=memory, predictions=kept))
        except NoRoom as error:
            if session.memory is memory:
                raise TooLarge(
                    f"what this call learned is stored, but its predictions have no room: {error}"
                ) from error
            raise
        session.memory, session.predictions = memory, kept
        return applied

    def configure(self, session_id: str, change: SessionConfig) -> Answer:
        """Change some keys of a session's configuration."""
        with self.sessions.use(session_id) as session:
            config = session.config.updated(change)
            self.sessions.hold(session, session.footprint(config=config))
            session.config = config
        return {"status": "okay", "message": "Configuration updated", "session_id": session_id}

    def clear_stm(self, session_id: str) -> Answer:
        """Clear the STM, what was gathered for it and the predictions made from it."""
        with self.sessions.use(session_id) as session:
            self._forget(session)
        return {"status": "cleared", "session_id": session_id}

    def clear_all(self, session_id: str) -> Answer:
        """Wipe the whole node; other sessions keep their STM."""
        with self.sessions.use(session_id) as session:
            self.nodes.get(session.node_id).clear()
            self._forget(session)
        return {"status": "cleared", "session_id": session_id, "scope": "all"}

    def _forget(self, session: Session) -> None:
        session.memory = Memory(time=session.memory.time)
        session.predictions = NO_PREDICTIONS
        self.sessions.hold(session, session.footprint())

    def stm(self, session_id: str) -> Answer:
        """Return the STM."""
        stm = self.sessions.get(session_id).memory.stm
        return {"stm": stm, "session_id": session_id, "length": len(stm)}

    def predictions(self, session_id: str) -> Answer:
        """Return the predictions that the session's last observation made."""
        made = self.sessions.get(session_id).predictions
        return {
            "predictions": made.predictions,
            "future_potentials": made.future_potentials,
            "session_id": session_id,
            "processor_id": None,
            "count": len(made.predictions),
            "time": None,
            "unique_id": None,
        }

    def frequencies(self, node_id: str) -> Iterator[str]:
        """Return lines of `name<TAB>frequency` of a node in order of name, some hundred to a piece of text.

        The store is asked at once, so that one that can't be reached is an error and not half an answer.
        """
        rows = self.gateway.call(lambda store: _begun(store.frequencies(node_id=node_id)))
        lines = (f"{name}\t{frequency}\n" for name, frequency in rows)
        return iter(lambda: "".join(islice(lines, _LINES_PER_PIECE)), "")

    def pattern(self, node_id: str, name: str) -> Answer:
        """Return a pattern of a node; an unknown one is an answer too."""
        node = self.nodes.get(node_id)
        found = node.pattern(name)
        if found is None:
            inner: Answer = {"status": "error", "message": f"Pattern {name} not found"}
        else:
            document = {
                "name": wire_name(bare_name(found.name)),
                "pattern_data": found.events,
                "length": found.length,
                "frequency": found.frequency,
                "emotives": found.emotives or {},
                "metadata": found.metadata,
            }
            inner = {"status": "okay", "pattern": document}
        return {"pattern": inner, "node_id": node.processor_id}

    def gene(self, node_id: str, name: str) -> Answer:
        """Return one gene: the node's value, else the default. KeyError for an unknown one."""
        if name not in SessionConfig.model_fields:
            raise KeyError(name)
        node = self.nodes.get(node_id)
        return {"gene": name, "value": getattr(node.config(SessionConfig()), name), "node_id": node.processor_id}

    def update_genes(self, node_id: str, change: SessionConfig) -> Answer:
        """Set genes of a node; answers the values of those that were named and are known."""
        node = self.nodes.get(node_id)
        node.update_genes(change)
        return {"status": "okay", "node_id": node.processor_id, "genes": change.model_dump(exclude_unset=True)}

    def overview(self) -> Answer:
        """Return what `GET /status` says, and a client of the extensions relies on."""
        return {
            "status": "running",
            "service_name": self.settings.service_name,
            "version": VERSION,
            "uptime_seconds": self.uptime(),
            "active_sessions": self.sessions.count(),
            "sessions": {"active_session_count": self.sessions.count()},
            "processors": {"total_processors": len(self.nodes)},
            "extensions": list(self.settings.extensions),
            "settings": self.settings.effective(),
            "timestamp": datetime.now(UTC).isoformat(),
        }

    def uptime(self) -> float:
        """Return the seconds since the start."""
        return monotonic() - self.started


def _work_through(
    *,
    call: Call,
    observations: Sequence[PlainObservation | Observation],
    flags: SequenceFlags,
    predicting: bool,
    marks: bool,
    compact: bool,
) -> Answer:
    initial, last = len(call.stm), len(observations) - 1
    results: list[Answer] = []
    names: list[str] = []
    # One read of the system's random numbers for all the ids of a call.
    ids = "" if compact else os.urandom(16 * len(observations)).hex()
    for position, observation in enumerate(observations):
        if flags.clear_stm_between and position:
            call.clear()
        auto_learned = call.observe(observation, with_cue=predicting and position == last)
        if flags.learn_after_each and call.stm:
            names.append(call.learn())
        if auto_learned is not None:
            names.append(auto_learned)
        if marks and observation.get("learn") and call.stm:
            names.append(call.learn())
        if not compact:
            own_id = f"seq-obs-{ids[32 * position : 32 * position + 32]}"
            results.append(
                {
                    "status": "okay",
                    "sequence_position": position,
                    "stm_length": len(call.stm),
                    "time": call.time,
                    "unique_id": observation.get("unique_id") or own_id,
                    "auto_learned_pattern": auto_learned,
                }
            )
    final = None
    if flags.learn_at_end and call.stm:
        final = call.learn()
        names.append(final)
    return {
        "observations_processed": len(observations),
        "initial_stm_length": initial,
        "final_stm_length": min(len(call.stm), MAX_STM_EVENTS),
        "results": results,
        "auto_learned_patterns": names,
        "final_learned_pattern": final,
    }
