"""Keeps a run's promise for every block engine: identity, ledger, resume, failure budget, completeness, progress.

Blocks are numbered over the whole input and dealt to shards, so the ledger knows nothing of shards: their number may
change whenever the run goes on, and two numbers may be at work at once.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from importlib.metadata import EntryPoint, entry_points
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from shardwise_api import indexes
from shardwise_api.runs import Engine as EngineNames
from shardwise_api.runs import TrainingRunSpec
from shardwise_api.sharding import shard_items
from shardwise_api.validation import suggestion
from shardwise_api.wire import (
    MAX_METRICS,
    Environment,
    ItemCounts,
    ItemFailure,
    Metric,
    PrepareResult,
    RunResult,
    ShardResult,
)

from .backoff import retrying
from .block_engine import MAX_LISTED, Block, BlockEngine, Ledger, Summary
from .blocks import count
from .errors import BadConfiguration, BadInput, TooManyFailedItems, Unavailable, WorkError
from .identity import RunIdentity
from .sources.base import Item, Source, Survey
from .spec import parse_spec
from .stores import BlockRecord, BlockStore, digest_of
from .worker import Context

T = TypeVar("T")

AT = "spec.engine.plugin"
GROUP = "shardwise.engines"
SUMMARY_FILE = "summary.json"
_BUILT_IN = frozenset({*EngineNames.model_fields, "ingest"})
_MAX_REASON = 160


def open_plugin(context: Context, environment: Mapping[str, str]) -> BlockRun:
    """Return the run of the engine that a manifest's `engine.plugin` names.

    Raises:
        BadConfiguration: there is none of that name here, or its settings make no sense.
    """
    plugin = context.document.spec["engine"]["plugin"]
    folder = environment.get(Environment.FOLDER)
    engine = load_plugin(plugin["name"])
    return BlockRun(context, engine, values=plugin.get("spec", {}), folder=Path(folder) if folder else None)


def load_plugin(name: str) -> type[BlockEngine[Any]]:
    """Return the installed engine of a name. Raises BadConfiguration as `open_plugin`."""
    found: dict[str, EntryPoint] = {
        point.name: point for point in entry_points(group=GROUP) if point.name not in _BUILT_IN
    }
    field = f"{AT}.name"
    if name in _BUILT_IN:
        way_out = "make an IngestRun" if name == "ingest" else f"write it as spec.engine.{name}"
        raise BadConfiguration(f"{field}: {name} is no plugin: {way_out}")
    if name not in found:
        told = suggestion(name, sorted(found)) if found else "none is installed"
        raise BadConfiguration(
            f"{field}: this worker has no engine {name!r}; {told}. Install the package that brings it, in a cluster "
            f"into the image of spec.worker.image"
        )
    try:
        engine = found[name].load()
    except (ImportError, AttributeError) as error:
        raise BadConfiguration(f"{field}: {name} ({found[name].value}) can't be loaded: {error}") from error
    if not (isinstance(engine, type) and issubclass(engine, BlockEngine)):
        raise BadConfiguration(f"{field}: {name} ({found[name].value}) is no shardwise.engine.BlockEngine")
    return engine


class BlockRun:
    """See `shardwise.engine.worker.Engine`: the three steps of a run, for any block engine."""

    def __init__(
        self, context: Context, engine: type[BlockEngine[Any]], *, values: Mapping[str, Any], folder: Path | None
    ) -> None:
        self._context = context
        self._document = context.document
        try:
            self._spec = TrainingRunSpec.model_validate(self._document.spec)
        except ValidationError as error:
            raise BadConfiguration(f"run document: {error}") from error
        assert self._spec.engine.plugin is not None
        self._name = self._spec.engine.plugin.name
        self._engine = engine(
            parse_spec(engine.spec_model, values, at=f"{AT}.spec", folder=folder),
            run=self._document.uid,
            output=context.output,
            at=f"{AT}.spec",
        )

    # -- prepare

    def prepare(self, *, dry_run: bool) -> PrepareResult:
        """Look at the input, then at what the run is recorded as; only when both are fine is anything written."""
        if not dry_run:
            self._context.output.check_writable()
        survey = self._engine.open_source().survey()
        total = self._checked_total(survey)
        identity = self._identity(survey)
        with closing(self._engine.open_store()) as store:
            recorded = _tried(store.identity)
            if recorded is None and not dry_run:
                recorded = _tried(lambda: store.begin(identity.to_json()))
            if recorded is not None:
                identity.require_same(recorded)
            complete = recorded is not None and len(_tried(store.blocks)) == self._blocks(total)
        return PrepareResult(
            items_total=total,
            input_fingerprint=survey.fingerprint,
            input_bytes=survey.size_bytes,
            already_complete=complete,
            details={
                "engine": self._name,
                "blocks": self._blocks(total),
                "failed": survey.failed,
                "failures": [reason[:_MAX_REASON] for _, reason in survey.failures[:3]],
            },
        )

    def _checked_total(self, survey: Survey) -> int:
        total = survey.items_total
        if total is None:
            raise BadInput(f"{AT}.spec: the input doesn't tell how many items it has, which blocks are numbered by")
        if total == survey.failed:
            first = f"; first: {survey.failures[0][1]}" if survey.failures else ""
            raise BadInput(
                f"{AT}.spec: the input has no item to work on ({total} found, {survey.failed} failed{first})"
            )
        self._require_few_failed(survey.failed, total=total, failures=survey.failures)
        return total

    def _identity(self, survey: Survey) -> RunIdentity:
        own = {f"{AT}.spec.{name}": value for name, value in self._engine.identity().items()}
        fields: dict[str, object] = {
            "spec.sharding.strategy": str(self._spec.sharding.strategy),
            "spec.blockSize": self._spec.block_size,
            f"{AT}.name": self._name,
            "input": survey.fingerprint,
            "items": survey.items_total,
            **own,
        }
        # As it will be read again: JSON knows no tuples.
        return RunIdentity(fields=json.loads(json.dumps(fields)))

    # -- work

    def work(self, *, shard: int) -> ShardResult:
        """Work the shard's blocks that nobody has committed, one commit each, stopping between two when asked to."""
        started = time.monotonic()
        prepared = self._document.prepared
        assert prepared is not None
        assert prepared.items_total is not None
        total = prepared.items_total
        source = self._engine.open_source()
        if not source.unchanged(size_bytes=prepared.input_bytes):
            raise _changed()
        mine = self._blocks_of(shard, total=total)
        with closing(self._engine.open_store()) as store:
            counts = _Counts(_tried(lambda: list(store.ledger(mine))))
            resumed = counts.items
            size = sum(len(self._items_of(block, total=total)) for block in mine)

            def report(*, last: bool = False) -> None:
                self._context.progress.send(counts.items, total=size, resumed=resumed, last=last)

            report()
            try:
                missing = [block for block in mine if block not in counts.blocks]
                for record in self._committed(missing, source=source, store=store, total=total):
                    counts.add(record)
                    self._require_few_failed(counts.items.failed, total=total, failures=counts.failures)
                    report()
            finally:
                report(last=True)
        return ShardResult(
            shard=shard,
            items=counts.items,
            failures=[ItemFailure(item=item, reason=reason) for item, reason in sorted(counts.failures)[:MAX_LISTED]],
            seconds=round(time.monotonic() - started, 3),
        )

    def _committed(
        self, missing: Sequence[int], *, source: Source, store: BlockStore, total: int
    ) -> Iterator[BlockRecord]:
        if not missing:
            return
        self._context.stop.check()
        self._engine.setup()
        items = source.read(*(self._items_of(block, total=total) for block in missing))
        for number in missing:
            self._context.stop.check()
            wanted = self._items_of(number, total=total)
            found: list[Item] = list(islice(items, len(wanted)))
            if [item.number for item in found] != list(wanted):
                raise _changed()
            block = Block(number, found)
            payload = self._engine.encode(self._engine.process(block))
            record = block.record(digest=digest_of(payload))
            yield _tried(lambda record=record, payload=payload: store.commit(record, payload))  # type: ignore[misc]

    # -- finalize

    def finalize(self) -> RunResult:
        """Check that every block is there and whole, and return what they come to; safe to repeat."""
        prepared = self._document.prepared
        assert prepared is not None
        assert prepared.items_total is not None
        total = prepared.items_total
        with closing(self._engine.open_store()) as store:
            records = _tried(lambda: list(store.ledger()))
            missing = self._checked_complete(records, total=total)
            ledger = Ledger(records, self._engine, store)
            items, failures = ledger.items, ledger.failures
            self._require_few_failed(items.failed, total=total, failures=failures)
            summary = self._engine.summarize(ledger)
        digest = f"sha256:{summary.digest or _digest_of_files(summary)}"
        for name, content in summary.files.items():
            self._context.output.write_bytes(name, _bytes(content))
        document = {
            "run": self._document.name,
            "uid": self._document.uid,
            "engine": self._name,
            "digest": digest,
            "items": items.model_dump(mode="json", by_alias=True),
            "metrics": dict(summary.metrics),
            **summary.details,
            "files": sorted(summary.files),
            "failures": [{"item": item, "reason": reason} for item, reason in failures],
            "input_fingerprint": prepared.input_fingerprint,
        }
        uri = self._context.output.write_text(SUMMARY_FILE, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        metrics = [Metric(name=name, value=value) for name, value in summary.metrics.items()]
        return RunResult(
            digest=digest,
            uri=uri,
            items=items,
            failures=[ItemFailure(item=item, reason=reason[:_MAX_REASON]) for item, reason in failures[:5]],
            metrics=metrics[:MAX_METRICS],
            summary={"files": [self._context.output.uri_of(name) for name in sorted(summary.files)][:10]},
            warnings=[f"{len(missing)} blocks of failed shards are missing from the result"] if missing else [],
        )

    def _checked_complete(self, records: Sequence[BlockRecord], *, total: int) -> list[int]:
        """Return the blocks that are missing and may be."""
        for record in records:
            expected = len(self._items_of(record.block, total=total))
            if record.items != expected:
                raise BadInput(
                    f"block {record.block} has {record.items} items in the ledger, {expected} in the input that this "
                    "run was prepared for; give the run another metadata.name to work on the input as it is now"
                )
        missing = sorted(set(range(self._blocks(total))) - {record.block for record in records})
        shards = [
            shard
            for shard in range(self._spec.sharding.shards)
            if any(block in self._blocks_of(shard, total=total) for block in missing)
        ]
        if len(shards) > self._spec.retry.max_failed_shards:
            raise WorkError(
                f"the ledger lacks {len(missing)} of {self._blocks(total)} blocks, of shards "
                f"{indexes.to_text(shards)}; nothing is lost, the shards have to run again"
            )
        return missing

    # -- arithmetic

    def _blocks(self, total: int) -> int:
        return count(total, block_size=self._spec.block_size)

    def _blocks_of(self, shard: int, *, total: int) -> range:
        sharding = self._spec.sharding
        return shard_items(strategy=sharding.strategy, shards=sharding.shards, shard=shard, total=self._blocks(total))

    def _items_of(self, block: int, *, total: int) -> range:
        size = self._spec.block_size
        return range(block * size, min((block + 1) * size, total))

    def _require_few_failed(self, failed: int, *, total: int, failures: Sequence[tuple[int, str]]) -> None:
        """Raise TooManyFailedItems when more items failed than the manifest tolerates; the one place that says so."""
        allowed = self._spec.items.max_failed_fraction
        # A quotient is as exact as the fraction that a person wrote; 0.29 * 100 is less than 29.
        if failed and failed / total > allowed:
            listed = "; ".join(reason for _, reason in failures[:3])
            raise TooManyFailedItems(
                f"{failed} of {total} items failed, spec.items.maxFailedFraction allows {allowed:g}: {listed}"
            )


class _Counts:
    """Committed items of a shard, over all attempts."""

    def __init__(self, records: Iterable[BlockRecord]) -> None:
        self.items = ItemCounts()
        self.blocks: set[int] = set()
        self.failures: list[tuple[int, str]] = []
        for record in records:
            self.add(record)

    def add(self, record: BlockRecord) -> None:
        self.blocks.add(record.block)
        self.items = ItemCounts(
            done=self.items.done + record.done,
            failed=self.items.failed + record.failed,
            skipped=self.items.skipped + record.skipped,
        )
        self.failures = [*self.failures, *record.failures][:MAX_LISTED]


def _tried(call: Callable[[], T]) -> T:
    return retrying(call, on=Unavailable)


def _changed() -> BadInput:
    return BadInput(
        f"{AT}.spec: the input has changed since this run was prepared; put it back as it was and start the run again, "
        "or give it another metadata.name to work on it as it is now"
    )


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def _digest_of_files(summary: Summary) -> str:
    digest = hashlib.sha256()
    for name in sorted(summary.files):
        digest.update(_bytes(summary.files[name]))
    return digest.hexdigest()
