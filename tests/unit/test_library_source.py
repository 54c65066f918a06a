"""Parquet files, folders and hub datasets through the real `datasets` library, without a network."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from shardwise.engine.errors import BadConfiguration, BadInput, Unavailable
from shardwise.engine.sources import ParquetSource
from shardwise_api.common import Strategy
from shardwise_api.sharding import shard_items
from shardwise_jobs.engines.kato.samples import FILES_FIELD, HUB_FIELD, Samples, open_hub
from tests.support.lines import write_lines
from tests.support.require import missing

LONG = "a text that is long enough"


def _hub(path: str, *, split: str = "train", column: str | None = None) -> Samples:
    return Samples(open_hub(path=path, name=None, split=split, column=column, revision=None), field=HUB_FIELD)


class TestKnownDatasets:
    @pytest.mark.parametrize(
        ("key", "path", "name", "column"),
        [
            ("c4", "allenai/c4", "en", "text"),
            ("redpajama_sample", "togethercomputer/RedPajama-Data-1T-Sample", None, "text"),
            ("pile", "monology/pile-uncopyrighted", None, "text"),
            ("refinedweb", "tiiuae/falcon-refinedweb", None, "content"),
            ("dolma", "allenai/dolma", None, "text"),
            ("wikitext", "Salesforce/wikitext", "wikitext-103-raw-v1", "text"),
            ("openwebtext", "Skylion007/openwebtext", None, "text"),
            ("bookcorpus", "bookcorpusopen", None, "text"),
            ("simple_wiki", "legacy-datasets/wikipedia", "20220301.simple", "text"),
        ],
    )
    def test_a_known_key_stands_for_a_dataset_of_the_hub(
        self, key: str, path: str, name: str | None, column: str
    ) -> None:
        opened = open_hub(path=key, name=None, split="train", column=None, revision=None)
        expected = {"path": path, "split": "train"} | ({"name": name} if name else {})
        assert opened.arguments == expected
        assert opened.column == column

    def test_what_the_manifest_says_goes_before_what_is_known(self) -> None:
        opened = open_hub(path="wikitext", name="wikitext-2-raw-v1", split="test", column="body", revision="abc")
        assert opened.arguments == {
            "path": "Salesforce/wikitext",
            "name": "wikitext-2-raw-v1",
            "split": "test",
            "revision": "abc",
        }
        assert opened.column == "body"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Keep the library to this machine and its cache to the test."""
    try:
        import datasets
    except ImportError:
        missing("the datasets library", "Get it with: pip install 'shardwise[datasets]'")
    with monkeypatch.context() as patched:
        patched.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        patched.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        patched.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
        patched.setattr(datasets.config, "HF_MODULES_CACHE", str(tmp_path / "modules"))
        yield


def _parquet(path: Path, texts: list[str | None], *, column: str = "text") -> Path:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({column: texts, "id": list(range(len(texts)))}), path, row_group_size=100)
    return path


@pytest.mark.usefixtures("offline")
class TestLibrary:
    def _source(self, *paths: Path, column: str = "text") -> Samples:
        return Samples(
            ParquetSource([str(path) for path in paths], column=column, field=FILES_FIELD), field=FILES_FIELD
        )

    def test_parquet_records_are_numbered_over_all_files(self, tmp_path: Path) -> None:
        first = _parquet(tmp_path / "1.parquet", [f"{LONG} 0", None, "short"])
        second = _parquet(tmp_path / "2.parquet", [f"{LONG} 3"])
        source = self._source(first, second)
        survey = source.survey(max_samples=None)
        assert (survey.items_total, survey.samples, survey.failed, survey.skipped) == (4, 2, 1, 1)
        assert survey.failures == [(1, "record 1: column 'text' is null, not text")]
        assert [(record.number, record.value) for record in source.read(range(1, 4, 2))] == [
            (1, None),
            (3, f"{LONG} 3"),
        ]

    def test_shards_of_parquet_files_read_every_item_once(self, tmp_path: Path) -> None:
        texts: list[str | None] = [f"{LONG} {number}" for number in range(250)]
        source = self._source(_parquet(tmp_path / "a.parquet", texts))
        for strategy in (Strategy.ROUND_ROBIN, Strategy.CHUNKED):
            parts = [shard_items(strategy=strategy, shards=3, shard=shard, total=250) for shard in range(3)]
            read = {record.number: record.value for part in parts for record in source.read(part)}
            assert [read[item] for item in range(250)] == texts

    def test_max_samples_ends_the_survey(self, tmp_path: Path) -> None:
        source = self._source(_parquet(tmp_path / "a.parquet", ["short", *[LONG] * 9]))
        survey = source.survey(max_samples=3)
        assert (survey.items_total, survey.samples) == (4, 3)

    def test_a_moved_parquet_file_is_the_same_input_and_a_changed_one_is_another(self, tmp_path: Path) -> None:
        here = self._source(_parquet(tmp_path / "here.parquet", [LONG, LONG]))
        there = self._source(_parquet(tmp_path / "there.parquet", [LONG, LONG]))
        survey = here.survey(max_samples=None)
        assert there.survey(max_samples=None).fingerprint == survey.fingerprint
        assert here.unchanged(size_bytes=survey.size_bytes)
        _parquet(tmp_path / "here.parquet", [LONG, LONG + "!" * 50])
        assert not here.unchanged(size_bytes=survey.size_bytes)
        assert here.survey(max_samples=None).fingerprint != survey.fingerprint

    def test_a_missing_column_is_bad_input_that_says_what_there_is(self, tmp_path: Path) -> None:
        source = self._source(_parquet(tmp_path / "a.parquet", [LONG]), column="body")
        with pytest.raises(BadInput, match=r"uris: no column 'body'; columns are 'text', 'id'"):
            source.survey(max_samples=None)

    def test_only_short_samples_are_bad_input(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="no sample to learn from"):
            self._source(_parquet(tmp_path / "a.parquet", ["short"])).survey(max_samples=None)

    def test_a_missing_parquet_file_is_a_bad_configuration_that_names_it(self, tmp_path: Path) -> None:
        with pytest.raises(BadConfiguration, match=r"uris: .*nowhere\.parquet"):
            self._source(tmp_path / "nowhere.parquet").survey(max_samples=None)

    def test_a_broken_parquet_file_is_bad_input_that_names_it(self, tmp_path: Path) -> None:
        (tmp_path / "broken.parquet").write_bytes(b"PAR1 but nothing else")
        with pytest.raises(BadInput, match=r"uris: .*broken\.parquet"):
            self._source(tmp_path / "broken.parquet").survey(max_samples=None)

    @pytest.mark.parametrize("name", ["a#b?.parquet", "[a]*.parquet", "zip::a.parquet", "~"])
    def test_a_parquet_files_name_is_a_name(self, name: str, tmp_path: Path) -> None:
        _parquet(tmp_path / "ab.parquet", [f"{LONG} of another file"])
        survey = self._source(_parquet(tmp_path / name, [LONG, LONG])).survey(max_samples=None)
        assert survey.items_total == 2

    def test_columns_that_nobody_asks_for_may_differ(self, tmp_path: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        _parquet(tmp_path / "1.parquet", [LONG])
        table = pyarrow.table({"id": [{"now": "a struct"}], "more": [b"\xff"], "text": [f"{LONG} 2"]})
        pyarrow.parquet.write_table(table, tmp_path / "2.parquet")
        source = self._source(tmp_path / "1.parquet", tmp_path / "2.parquet")
        assert [record.value for record in source.read(range(2))] == [LONG, f"{LONG} 2"]

    def test_a_later_file_without_the_column_or_broken_in_its_middle_is_named(self, tmp_path: Path) -> None:
        first = _parquet(tmp_path / "1.parquet", [f"{LONG} {number}" for number in range(500)])
        other = _parquet(tmp_path / "2.parquet", [LONG], column="body")
        with pytest.raises(BadInput, match=r"uris: .*2\.parquet: no column 'text'; columns are 'body', 'id'"):
            self._source(first, other).survey(max_samples=None)
        content = bytearray(first.read_bytes())
        content[4:600] = b"\xff" * 596
        first.write_bytes(content)
        with pytest.raises(BadInput, match=r"uris: .*1\.parquet: not a readable parquet file: "):
            self._source(first).survey(max_samples=None)

    def test_a_folders_file_that_breaks_off_is_bad_input(self, tmp_path: Path) -> None:
        folder = tmp_path / "corpus"
        folder.mkdir()
        write_lines(folder / "train.jsonl", *[{"text": f"{LONG} {number}"} for number in range(3)])
        with (folder / "train.jsonl").open("ab") as stream:
            stream.write(b'{"text": "cut o')
        source = Samples(
            open_hub(path=str(folder), name=None, split="train", column=None, revision=None), field=HUB_FIELD
        )
        with pytest.raises(BadInput, match=r"dataset\.hub: .*corpus: "):
            source.survey(max_samples=100)

    def test_parquet_files_are_streamed(self, tmp_path: Path) -> None:
        source = self._source(_parquet(tmp_path / "a.parquet", [f"{LONG * 40} {number}" for number in range(20_000)]))
        tracemalloc.start()
        try:
            assert len(list(islice(source.read(range(20_000)), 10))) == 10
            assert source.survey(max_samples=5_000).samples == 5_000
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 8 * 2**20 < 20_000 * 40 * len(LONG)

    def test_a_folder_is_a_dataset(self, tmp_path: Path) -> None:
        folder = tmp_path / "corpus"
        folder.mkdir()
        write_lines(folder / "train.jsonl", {"body": f"{LONG} 0"}, {"body": "short"}, {"body": f"{LONG} 2"})
        source = Samples(
            open_hub(path=str(folder), name=None, split="train", column="body", revision=None), field=HUB_FIELD
        )
        survey = source.survey(max_samples=2)
        assert (survey.items_total, survey.samples, survey.skipped) == (3, 2, 1)
        assert [record.value for record in source.read(range(0, 3, 2))] == [f"{LONG} 0", f"{LONG} 2"]
        uncounted = source.survey(max_samples=None)
        assert uncounted.items_total is None
        assert uncounted.fingerprint != survey.fingerprint

    def test_a_dataset_that_cannot_be_found_names_its_field(self, tmp_path: Path) -> None:
        source = Samples(
            open_hub(path=str(tmp_path / "no"), name=None, split="train", column=None, revision=None), field=HUB_FIELD
        )
        with pytest.raises(BadInput, match=r"dataset\.hub: .*no"):
            source.survey(max_samples=None)

    def test_a_hub_that_cannot_be_reached_is_worth_another_try(self) -> None:
        source = _hub("c4")
        with pytest.raises(Unavailable, match=r"dataset\.hub: .*allenai/c4"):
            source.survey(max_samples=1)

    def test_a_split_that_is_not_there_is_bad_input(self, tmp_path: Path) -> None:
        write_lines(tmp_path / "train.jsonl", {"text": LONG})
        source = Samples(
            open_hub(path=str(tmp_path), name=None, split="nosplit", column=None, revision=None), field=HUB_FIELD
        )
        with pytest.raises(BadInput, match=r"dataset\.hub: .*nosplit"):
            source.survey(max_samples=1)


def test_the_library_is_asked_for_by_name_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(BadConfiguration, match=r"pip install 'shardwise\[datasets\]'"):
        ParquetSource(["a.parquet"], field=FILES_FIELD).survey()
