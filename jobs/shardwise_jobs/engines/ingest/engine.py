"""The ingest engine: prepare looks at all that is needed, work ingests a shard, finalize builds the index."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing

from pydantic import ValidationError

from shardwise.engine.blocks import blocks
from shardwise.engine.errors import BadConfiguration
from shardwise.engine.identity import RunIdentity
from shardwise.engine.worker import Context
from shardwise_api.ingest import OnTmdFailure, Tmd
from shardwise_api.runs import IngestRunSpec
from shardwise_api.wire import ItemCounts, ItemFailure, Metric, PrepareResult, RunResult, ShardResult

from . import factories, finalize
from .ledger import LedgerSum, blocks_of, items_of, missing_blocks, require_few_failed
from .phase_timer import PhaseTimer
from .pipeline import Block, Pipeline, Target, ahead_of
from .source import ChunkFiles, Entry, InputChanged, Survey
from .stages import Stages
from .stores import BlockRecord, RowStore, VectorModel
from .stores.base import NeverPrepared

_MAX_REASON = 200
_MAX_LISTED = 10


class IngestEngine:
    """See `shardwise.engine.worker.Engine`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._document = context.document
        try:
            self._spec = IngestRunSpec.model_validate(self._document.spec)
        except ValidationError as error:
            raise BadConfiguration(f"run document: {error}") from error

    # -- prepare

    def prepare(self, *, dry_run: bool) -> PrepareResult:
        """Look at the input, the model, the LLM and the store; only when all are fine is anything written."""
        spec = self._spec
        if not dry_run:
            self._context.output.check_writable()
        survey = self._source().survey()
        require_few_failed(
            failed=survey.failed, total=survey.items_total, spec=spec, reasons=[why for _, why in survey.failures]
        )
        with factories.opened_embedder(spec.embedding) as embedder:
            model = VectorModel(name=embedder.name, dimension=embedder.dimension)
        asyncio.run(factories.check_backend(spec, load=not dry_run))
        complete = self._prepare_store(model=model, survey=survey, dry_run=dry_run)
        return PrepareResult(
            items_total=survey.items_total,
            input_fingerprint=survey.fingerprint,
            input_bytes=survey.size_bytes,
            already_complete=complete,
            details={
                "chunks": survey.items_total - survey.failed,
                "failed": survey.failed,
                "duplicates": survey.duplicates,
                "failures": [reason[:_MAX_REASON] for _, reason in survey.failures[:3]],
                "embedModel": model.name,
                "dimension": model.dimension,
            },
        )

    def _prepare_store(self, *, model: VectorModel, survey: Survey, dry_run: bool) -> bool:
        """Check the store and make what is missing; say whether the run's blocks are all there."""
        run, spec = self._document.uid, self._spec
        if dry_run and factories.is_absent(spec.store):
            return False
        identity = identity_of(spec=spec, survey=survey, embed_model=model.name)
        with closing(factories.open_rows(spec.store)) as store:
            if not dry_run:
                store.prepare(model=model)
            elif not _was_prepared(store, model=model):
                return False
            recorded = store.run_document(run=run)
            if recorded is not None:
                identity.require_same(recorded)
            elif not dry_run:
                store.record_run(run=run, document=identity.to_json())
            return not missing_blocks(store.ledger(run=run), spec, total=survey.items_total)

    # -- work

    def work(self, *, shard: int) -> ShardResult:
        """Ingest the shard's remaining blocks, one commit each, stopping between two when asked to."""
        started = time.monotonic()
        prepared = self._document.prepared
        assert prepared is not None
        assert prepared.items_total is not None
        source = self._source()
        if not source.unchanged(size_bytes=prepared.input_bytes):
            raise InputChanged
        with closing(factories.open_rows(self._spec.store)) as store:
            counts = LedgerSum.of(store.ledger(run=self._document.uid, shard=shard))
            tally = _Tally(self._context, counts, total=len(self._items(shard, prepared.items_total)))
            tally.report()
            try:
                if counts.blocks < blocks_of(self._spec, shard=shard, total=prepared.items_total):
                    self._work(shard, source=source, store=store, tally=tally, prepared=prepared)
            finally:
                tally.report(last=True)
        failures = sorted(counts.failures)[:_MAX_LISTED]
        return ShardResult(
            shard=shard,
            items=counts.items,
            failures=[ItemFailure(item=item, reason=reason[:_MAX_REASON]) for item, reason in failures],
            seconds=round(time.monotonic() - started, 3),
        )

    def _work(self, shard: int, *, source: ChunkFiles, store: RowStore, tally: _Tally, prepared: PrepareResult) -> None:
        spec, run = self._spec, self._document.uid
        total = prepared.items_total
        assert total is not None
        with factories.opened_embedder(spec.embedding) as embedder:
            store.check(model=VectorModel(name=embedder.name, dimension=embedder.dimension))
            target = Target(store=store, run=run, shard=shard, dataset=spec.dataset_source, embed_model=embedder.name)
            done = store.committed_blocks(run=run, shard=shard)
            entries = source.entries(self._items(shard, total), fingerprint=prepared.input_fingerprint)

            async def pipeline() -> None:
                clock = PhaseTimer()
                # Here, since its connections belong to this loop.
                backend = factories.open_backend(spec, embedder=embedder)
                fallback = factories.open_fallback(spec, embedder=embedder)
                stages = Stages(embedder=embedder, backend=backend, fallback=fallback, clock=clock)
                try:
                    await Pipeline(
                        stages=stages,
                        target=target,
                        clock=clock,
                        ahead=ahead_of(workers=spec.workers, block_size=spec.block_size),
                        max_failed=spec.items.max_failed_fraction * total,
                        check=self._context.stop.check,
                        committed=tally.committed,
                    ).run(self._blocks(entries, done=done), failed=tally.counts.failed)
                finally:
                    await stages.close()

            asyncio.run(pipeline())

    def _blocks(self, entries: Iterator[Entry], *, done: frozenset[int]) -> Iterator[Block]:
        for number, block in blocks(entries, block_size=self._spec.block_size, first=0):
            if number not in done:
                yield Block(number=number, entries=block)

    def _items(self, shard: int, total: int) -> range:
        return items_of(self._spec, shard=shard, total=total)

    # -- finalize

    def finalize(self) -> RunResult:
        """Check the ledger, build the index of the committed rows, compute digests and summary."""
        with closing(factories.open_rows(self._spec.store)) as store:
            return finalize.finalize(context=self._context, spec=self._spec, source=self._source(), store=store)

    def _source(self) -> ChunkFiles:
        return ChunkFiles(self._spec.source.files, dataset=self._spec.dataset_source, dedup=self._spec.dedup)


class _Tally:
    """Committed chunks of a shard, over all attempts, told to whoever watches."""

    def __init__(self, context: Context, counts: LedgerSum, *, total: int) -> None:
        self.counts = counts
        self._context = context
        self._total = total
        self._resumed: ItemCounts = counts.items

    def committed(self, record: BlockRecord) -> None:
        """Count a block."""
        self.counts.add(record)
        self.report()

    def report(self, *, last: bool = False) -> None:
        """Send the counts."""
        figures = [Metric(name=name, value=value) for name, value in self.counts.figures.items()]
        self._context.progress.send(
            self.counts.items, total=self._total, resumed=self._resumed, metrics=figures, last=last
        )


def _was_prepared(store: RowStore, *, model: VectorModel) -> bool:
    try:
        store.check(model=model)
    except NeverPrepared:
        return False
    return True


def identity_of(*, spec: IngestRunSpec, survey: Survey, embed_model: str) -> RunIdentity:
    """Return the identity of a run as its manifest and its input are now."""
    return RunIdentity(
        fields={
            "spec.sharding.strategy": str(spec.sharding.strategy),
            "spec.sharding.shards": spec.sharding.shards,
            "spec.blockSize": spec.block_size,
            "spec.source": survey.fingerprint,
            "spec.datasetSource": spec.dataset_source,
            "spec.dedup": str(spec.dedup),
            "spec.tmd": _who_gives_codes(spec.tmd),
            "spec.embedding": embed_model,
            "items": survey.items_total,
        }
    )


def _who_gives_codes(tmd: Tmd) -> str:
    words = [str(tmd.backend), *([tmd.model] if tmd.model else [])]
    if tmd.on_tmd_failure is OnTmdFailure.EMBEDDED:
        words.append("else embedded")
    return " ".join(words)
