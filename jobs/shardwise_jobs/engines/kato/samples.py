"""What KATO learns from: texts that are long enough, of an input that the manifest names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shardwise.engine.errors import BadInput
from shardwise.engine.sources import HubSource, Item, LineSource, ParquetSource, Source, Survey
from shardwise_api.kato import DatasetSpec, FileFormat

MIN_CHARACTERS = 11
"""A sample's text, stripped, must have at least these: the original loader takes more than ten."""
_FIELD = "spec.engine.kato.dataset"
FILES_FIELD = f"{_FIELD}.files.uris"
HUB_FIELD = f"{_FIELD}.hub"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDataset:
    """A dataset that goes by a short key."""

    path: str
    name: str | None = None
    column: str = "text"


KNOWN = {
    "c4": KnownDataset(path="allenai/c4", name="en"),
    "redpajama_sample": KnownDataset(path="togethercomputer/RedPajama-Data-1T-Sample"),
    "pile": KnownDataset(path="monology/pile-uncopyrighted"),
    "refinedweb": KnownDataset(path="tiiuae/falcon-refinedweb", column="content"),
    "dolma": KnownDataset(path="allenai/dolma"),
    "wikitext": KnownDataset(path="Salesforce/wikitext", name="wikitext-103-raw-v1"),
    "openwebtext": KnownDataset(path="Skylion007/openwebtext"),
    "bookcorpus": KnownDataset(path="bookcorpusopen"),
    "simple_wiki": KnownDataset(path="legacy-datasets/wikipedia", name="20220301.simple"),
}
"""Keys of the original learner's loader."""


class Samples:
    """The texts of a source; those that are too short are passed over, which is no failure."""

    def __init__(self, source: Source, *, field: str) -> None:
        self._source = source
        self._field = field

    def survey(self, *, max_samples: int | None) -> Survey:
        """Look through the input, up to and with the `max_samples`-th sample; see `Source.survey`.

        Raises:
            BadInput: nothing to learn from was found; a run of 0 samples is a mistake, not a success.
        """
        survey = self._source.survey(skip=too_short, limit=max_samples)
        if survey.samples == 0:
            first = f"; first: {survey.failures[0][1]}" if survey.failures else ""
            raise BadInput(
                f"{self._field}: no sample to learn from ({survey.items_total} records: {survey.failed} failed, "
                f"{survey.skipped} shorter than {MIN_CHARACTERS} characters{first})"
            )
        return survey

    def read(self, items: range) -> Iterator[Item]:
        """See `Source.read`."""
        return self._source.read(items)

    def unchanged(self, *, size_bytes: int | None) -> bool:
        """See `Source.unchanged`."""
        return self._source.unchanged(size_bytes=size_bytes)


def too_short(item: Item) -> bool:
    """Say whether an item has too little text to learn from."""
    return item.failure is None and len(item.value.strip()) < MIN_CHARACTERS


def open_samples(dataset: DatasetSpec) -> Samples:
    """Return the input that a manifest names."""
    files, hub = dataset.files, dataset.hub
    if files is not None:
        source: Source
        if files.format is FileFormat.PARQUET:
            source = ParquetSource(files.uris, column=files.column, field=FILES_FIELD)
        else:
            source = LineSource(
                files.uris,
                format="jsonl" if files.format is FileFormat.JSONL else "text",
                column=files.column,
                field=FILES_FIELD,
            )
        return Samples(source, field=FILES_FIELD)
    assert hub is not None
    return Samples(
        open_hub(path=hub.path, name=hub.name, split=hub.split, column=hub.column, revision=hub.revision),
        field=HUB_FIELD,
    )


def open_hub(*, path: str, name: str | None, split: str, column: str | None, revision: str | None) -> HubSource:
    """Open a hub dataset, or a folder that holds one; a known key stands for its path, name and column."""
    known = KNOWN.get(path, KnownDataset(path=path))
    return HubSource(
        known.path,
        name=name or known.name,
        split=split,
        column=column or known.column,
        revision=revision,
        field=HUB_FIELD,
    )
