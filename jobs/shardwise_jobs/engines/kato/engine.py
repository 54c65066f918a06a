"""The KATO engine: prepare looks at the input and the store, work learns a shard in blocks, finalize sums up."""

from __future__ import annotations

import time

from pydantic import ValidationError

from shardwise.engine.blocks import blocks, remaining
from shardwise.engine.errors import BadConfiguration, BadInput, TooManyFailedItems
from shardwise.engine.identity import RunIdentity
from shardwise.engine.sources import Item, Survey
from shardwise.engine.worker import Context
from shardwise_api.kato import KatoEngine as KatoSpec
from shardwise_api.kato import NodeMode
from shardwise_api.runs import TrainingRunSpec
from shardwise_api.sharding import ENDLESS, shard_items
from shardwise_api.wire import ItemCounts, ItemFailure, PrepareResult, RunResult, ShardResult

from . import backends, finalize
from .hierarchy import Hierarchy
from .samples import Samples, open_samples, too_short
from .stores.base import KnowledgeBaseConfig
from .tokenization import open_tokenizer, tokenizer_identity
from .transport import MAX_LISTED_FAILURES, WorkedBlock


class KatoEngine:
    """See `shardwise.engine.worker.Engine`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._document = context.document
        try:
            self._spec = TrainingRunSpec.model_validate(self._document.spec)
        except ValidationError as error:
            raise BadConfiguration(f"run document: {error}") from error
        assert self._spec.engine.kato is not None
        self._kato: KatoSpec = self._spec.engine.kato

    # -- prepare

    def prepare(self, *, dry_run: bool) -> PrepareResult:
        """Survey the input, then the backend; only when both are fine is anything written."""
        config = knowledge_base_config(self._kato)
        open_tokenizer(self._kato.tokenizer)
        if not dry_run:
            self._context.output.check_writable()
        survey = self._source().survey(max_samples=self._kato.dataset.max_samples)
        self._check_survey(survey)
        identity = identity_of(spec=self._spec, config=config, survey=survey)
        with backends.open_backend(self._context, self._kato) as backend:
            backend.check(config=config, identity=identity)
            complete = finalize.missing_blocks(backend.ledger(), self._spec, survey.items_total) == {}
            if not dry_run:
                backend.begin(config=config, identity=identity)
            return PrepareResult(
                items_total=survey.items_total,
                input_fingerprint=survey.fingerprint,
                input_bytes=survey.size_bytes,
                already_complete=complete,
                details={
                    "samples": survey.samples,
                    "failed": survey.failed,
                    "skipped": survey.skipped,
                    "failures": [reason for _, reason in survey.failures[:3]],
                    "guarantee": backend.guarantee,
                    "tokenizer": config.tokenizer,
                },
            )

    def _check_survey(self, survey: Survey) -> None:
        if survey.items_total is None and self._spec.sharding.strategy != "RoundRobin":
            raise BadConfiguration(
                f"spec.sharding.strategy: {self._spec.sharding.strategy} needs the number of items, which this dataset "
                "doesn't tell: set spec.engine.kato.dataset.maxSamples, or use RoundRobin"
            )
        check_failed_share(
            failed=survey.failed,
            total=survey.items_total,
            allowed=self._spec.items.max_failed_fraction,
            first=[reason for _, reason in survey.failures],
        )

    # -- work

    def work(self, *, shard: int) -> ShardResult:
        """Learn the shard's remaining blocks, one commit each, stopping between two when asked to."""
        started = time.monotonic()
        prepared = self._document.prepared
        assert prepared is not None
        source = self._source()
        if not source.unchanged(size_bytes=prepared.input_bytes):
            raise BadInput("spec.engine.kato.dataset: a file has changed since this run was prepared")
        items = shard_items(
            strategy=self._spec.sharding.strategy,
            shards=self._spec.sharding.shards,
            shard=shard,
            total=prepared.items_total,
        )
        hierarchy = open_hierarchy(self._kato)
        counts = _Counts(total=len(items) if items.stop < ENDLESS else None)
        with backends.open_backend(self._context, self._kato) as backend, backend.transport(shard) as transport:
            for record in transport.records():
                counts.add(done=record.done, failed=record.failed, skipped=record.skipped, failures=record.failures)
            counts.resumed = counts.items
            last = transport.last_block()
            left = remaining(items, block_size=self._spec.block_size, last_block=last)
            self._report(counts)
            try:
                for number, records in blocks(source.read(left), block_size=self._spec.block_size, first=last + 1):
                    self._context.stop.check()
                    row = transport.commit(_worked(number, records, hierarchy))
                    counts.add(done=row.done, failed=row.failed, skipped=row.skipped, failures=row.failures)
                    self._report(counts)
            finally:
                self._report(counts, last=True)
        return ShardResult(
            shard=shard,
            items=counts.items,
            failures=[ItemFailure(item=item, reason=reason[:200]) for item, reason in counts.failures],
            seconds=round(time.monotonic() - started, 3),
        )

    def _report(self, counts: _Counts, *, last: bool = False) -> None:
        self._context.progress.send(counts.items, total=counts.total, resumed=counts.resumed, last=last)

    # -- finalize

    def finalize(self) -> RunResult:
        """Check the ledger, compute digest, summary and picture, drop the guards."""
        with backends.open_backend(self._context, self._kato) as backend:
            return finalize.finalize(context=self._context, spec=self._spec, kato=self._kato, backend=backend)

    def _source(self) -> Samples:
        return open_samples(self._kato.dataset)


class _Counts:
    """Committed items of a shard, over all attempts."""

    def __init__(self, *, total: int | None) -> None:
        self.items = ItemCounts()
        self.total = total
        self.resumed = ItemCounts()
        self.failures: list[tuple[int, str]] = []

    def add(self, *, done: int, failed: int, skipped: int, failures: tuple[tuple[int, str], ...]) -> None:
        self.items = ItemCounts(
            done=self.items.done + done, failed=self.items.failed + failed, skipped=self.items.skipped + skipped
        )
        self.failures = [*self.failures, *failures][:MAX_LISTED_FAILURES]


def open_hierarchy(kato: KatoSpec) -> Hierarchy:
    """Return the learner that the manifest describes."""
    node0 = kato.nodes[0]
    return Hierarchy(
        chunk_sizes=tuple(node.chunk_size for node in kato.nodes),
        tokenize=open_tokenizer(kato.tokenizer),
        structure=kato.dataset.structure,
        min_sentence_tokens=node0.min_sentence_tokens if node0.mode is NodeMode.SENTENCES else None,
    )


def knowledge_base_config(kato: KatoSpec) -> KnowledgeBaseConfig:
    """Return what tells two ways of learning the same text apart."""
    node0 = kato.nodes[0]
    mode = f"{node0.mode}:{node0.min_sentence_tokens}" if node0.mode is NodeMode.SENTENCES else f"{node0.mode}"
    return KnowledgeBaseConfig(
        nodes=tuple(node.name for node in kato.nodes),
        chunk_sizes=tuple(node.chunk_size for node in kato.nodes),
        tokenizer=tokenizer_identity(kato.tokenizer),
        segmentation=f"{kato.dataset.structure}/{mode}",
    )


def check_failed_share(*, failed: int, total: int | None, allowed: float, first: list[str]) -> None:
    """Raise when more items failed than the manifest tolerates.

    Raises:
        TooManyFailedItems: with the first few reasons.
    """
    if not failed or total is None or failed <= allowed * total:
        return
    listed = "; ".join(first[:3])
    raise TooManyFailedItems(
        f"{failed} of {total} items failed, spec.items.maxFailedFraction allows {allowed:g}: {listed}"
    )


def _worked(number: int, items: list[Item], hierarchy: Hierarchy) -> WorkedBlock:
    learnable = (item for item in items if item.failure is None and not too_short(item))
    return WorkedBlock(
        number=number,
        trees=[hierarchy.learn(item=item.number, text=item.value) for item in learnable],
        failures=[(item.number, item.failure) for item in items if item.failure is not None],
        skipped=sum(map(too_short, items)),
    )


def identity_of(*, spec: TrainingRunSpec, config: KnowledgeBaseConfig, survey: Survey) -> RunIdentity:
    """Return the identity of a run as its manifest and its input are now."""
    assert spec.engine.kato is not None
    return RunIdentity(
        fields={
            "spec.sharding.strategy": str(spec.sharding.strategy),
            "spec.sharding.shards": spec.sharding.shards,
            "spec.blockSize": spec.block_size,
            "spec.engine.kato.knowledgeBase": spec.engine.kato.knowledge_base,
            "spec.engine.kato.nodes": [
                f"{node} chunkSize {size}" for node, size in zip(config.nodes, config.chunk_sizes, strict=True)
            ],
            "spec.engine.kato.tokenizer": config.tokenizer,
            "spec.engine.kato.dataset.structure": config.segmentation,
            "spec.engine.kato.dataset": survey.fingerprint,
            "items": survey.items_total,
        }
    )
