"""Inputs as numbered records: item i is the same record in every pass, and a bad one costs itself and nothing else."""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import sys
import tracemalloc
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.engine.errors import BadConfiguration, BadInput
from shardwise.engine.files import OutputFolder
from shardwise.engine.sources import Item, LineSource
from shardwise.engine.sources.files import MAX_LINE_BYTES
from shardwise_api.common import Strategy
from shardwise_api.sharding import shard_items
from shardwise_jobs.engines.kato.samples import FILES_FIELD, Samples, too_short
from tests.support.lines import write_lines

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.usefixtures("memory_uris")

LONG = "a text that is long enough"


def _jsonl(*paths: Path | str, column: str = "text") -> Samples:
    lines = LineSource([str(path) for path in paths], format="jsonl", column=column, field=FILES_FIELD)
    return Samples(lines, field=FILES_FIELD)


def _text(*paths: Path) -> Samples:
    return Samples(LineSource([str(path) for path in paths], column="text", field=FILES_FIELD), field=FILES_FIELD)


def _all(source: Samples) -> list[Item]:
    return list(source.read(range(10**6)))


def _failure(path: Path) -> str:
    """Return why the middle one of three lines failed, the others being fine."""
    before, broken, after = _all(_jsonl(path))
    assert before.value == after.value == LONG
    assert broken.number == 1
    assert broken.failure is not None
    assert not too_short(broken)
    survey = _jsonl(path).survey(max_samples=None)
    assert (survey.items_total, survey.samples, survey.failed) == (3, 2, 1)
    assert survey.failures == [(1, broken.failure)]
    return broken.failure


def _around(path: Path, line: bytes | str | dict[str, Any]) -> Path:
    return write_lines(path, {"text": LONG}, line, {"text": LONG})


class TestLines:
    def test_a_line_is_an_item_numbered_over_all_files(self, tmp_path: Path) -> None:
        first = write_lines(tmp_path / "1.jsonl", {"text": "one"}, {"text": "two"})
        second = write_lines(tmp_path / "2.jsonl", {"text": "three", "other": 1})
        assert _all(_jsonl(first, second)) == [
            Item(number=0, value="one"),
            Item(number=1, value="two"),
            Item(number=2, value="three"),
        ]

    def test_a_last_line_needs_no_end(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_bytes(b"one\ntwo")
        (tmp_path / "b.txt").write_bytes(b"three\r\n")
        source = _text(tmp_path / "a.txt", tmp_path / "b.txt")
        assert [record.value for record in _all(source)] == ["one", "two", "three"]

    def test_text_files_keep_what_a_line_holds(self, tmp_path: Path) -> None:
        path = write_lines(tmp_path / "a.txt", "  with spaces\t", '{"text": 1}', "naïve \u2028 日本")
        assert [record.value for record in _all(_text(path))] == ["  with spaces\t", '{"text": 1}', "naïve \u2028 日本"]

    @pytest.mark.parametrize("ending", ["gz", "bz2"])
    def test_compressed_files_hold_the_same_items(self, ending: str, tmp_path: Path) -> None:
        plain = write_lines(tmp_path / "a.jsonl", *({"text": f"{LONG} {number}"} for number in range(50)))
        packed = tmp_path / f"a.jsonl.{ending}"
        compress = gzip.compress if ending == "gz" else bz2.compress
        packed.write_bytes(compress(plain.read_bytes()))
        assert _all(_jsonl(packed)) == _all(_jsonl(plain))
        assert _jsonl(packed).survey(max_samples=None).fingerprint == _jsonl(plain).survey(max_samples=None).fingerprint

    def test_a_compressed_file_that_was_cut_off_is_bad_input(self, tmp_path: Path) -> None:
        path = tmp_path / "cut.jsonl.zst"
        path.write_bytes(zstd.compress(json.dumps({"text": LONG}).encode() + b"\n")[:-4])
        for source in (_jsonl(path), _text(path)):
            with pytest.raises(BadInput, match=r"^spec\..*uris: .*cut\.jsonl\.zst: the compressed file is broken"):
                source.survey(max_samples=None)

    @pytest.mark.parametrize("make", [_text, _jsonl])
    def test_a_byte_order_mark_is_no_part_of_a_file_s_text(
        self, make: Callable[[Path], Samples], tmp_path: Path
    ) -> None:
        plain = write_lines(tmp_path / "a", *({"text": f"{LONG} {number}"} for number in range(3)))
        marked = tmp_path / "b"
        marked.write_bytes(codecs.BOM_UTF8 + plain.read_bytes())
        assert _all(make(marked)) == _all(make(plain))
        # Only at its begin: elsewhere it is a character as any other.
        (tmp_path / "c").write_bytes(b"one\n\xef\xbb\xbftwo\n")
        assert [record.value for record in _all(_text(tmp_path / "c"))] == ["one", "\ufefftwo"]

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le", "utf-32"])
    @pytest.mark.parametrize("make", [_text, _jsonl])
    def test_utf16_is_refused(self, make: Callable[[Path], Samples], encoding: str, tmp_path: Path) -> None:
        path = tmp_path / "windows.txt"
        path.write_text(json.dumps({"text": LONG}) + "\n", encoding=encoding)
        with pytest.raises(BadInput, match=r"windows\.txt: the text is UTF-16 or UTF-32, not UTF-8; convert it: iconv"):
            make(path).survey(max_samples=None)

    def test_files_come_by_uri_too(self) -> None:
        folder = OutputFolder(f"memory://{uuid.uuid4().hex}")
        uri = folder.write_text("a.jsonl", json.dumps({"text": LONG}) + "\n")
        source = _jsonl(uri)
        survey = source.survey(max_samples=None)
        assert (survey.samples, survey.size_bytes) == (1, None)
        assert source.unchanged(size_bytes=None)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(BadConfiguration, match=r"dataset\.files\.uris: .*nowhere\.jsonl: No such file"):
            _jsonl(tmp_path / "nowhere.jsonl").survey(max_samples=None)


class TestBrokenRecords:
    @pytest.mark.parametrize("line", ['{"text": "cut', "no json", "[" * 100_000, '{"text": 1' + "0" * 5000 + "}"])
    def test_a_broken_line_fails_alone(self, line: str, tmp_path: Path) -> None:
        assert _failure(_around(tmp_path / "a.jsonl", line)).startswith("a.jsonl line 2: not JSON: ")

    @pytest.mark.parametrize(("line", "kind"), [("[1]", "list"), ('"text"', "str"), ("null", "NoneType")])
    def test_a_line_that_is_no_object_fails_alone(self, line: str, kind: str, tmp_path: Path) -> None:
        assert _failure(_around(tmp_path / "a.jsonl", line)) == f"a.jsonl line 2: not a JSON object but {kind}"

    def test_a_record_without_the_column_fails_and_names_those_it_has(self, tmp_path: Path) -> None:
        path = _around(tmp_path / "a.jsonl", {"body": LONG, "id": 1})
        assert _failure(path) == "a.jsonl line 2: no column 'text'; columns are 'body', 'id'"

    def test_an_empty_record_fails(self, tmp_path: Path) -> None:
        assert _failure(_around(tmp_path / "a.jsonl", {})) == "a.jsonl line 2: no column 'text'; columns are none"

    @pytest.mark.parametrize(("value", "kind"), [(None, "null"), (1, "int"), (["a"], "list")])
    def test_a_value_that_is_no_text_fails(self, value: object, kind: str, tmp_path: Path) -> None:
        path = _around(tmp_path / "a.jsonl", {"text": value})
        assert _failure(path) == f"a.jsonl line 2: column 'text' is {kind}, not text"

    def test_bytes_that_are_not_utf8_fail_alone(self, tmp_path: Path) -> None:
        path = _around(tmp_path / "a.jsonl", b'{"text": "caf\xe9 au lait"}')
        assert _failure(path) == "a.jsonl line 2: not UTF-8: byte 0xe9"
        plain = write_lines(tmp_path / "a.txt", LONG, b"caf\xe9 au lait", LONG)
        assert [record.failure for record in _all(_text(plain))] == [None, "a.txt line 2: not UTF-8: byte 0xe9", None]

    @pytest.mark.parametrize(
        "line", [rb'{"text": "half \ud83d of a pair"}', b'{"text": "half \xed\xa0\xbd of a pair"}']
    )
    def test_half_a_surrogate_pair_fails_alone(self, line: bytes, tmp_path: Path) -> None:
        path = _around(tmp_path / "a.jsonl", line)
        assert _failure(path) == "a.jsonl line 2: column 'text' holds half a surrogate pair"

    def test_a_missing_column_in_all_records_is_bad_input_that_says_what_there_is(self, tmp_path: Path) -> None:
        path = write_lines(tmp_path / "a.jsonl", {"body": LONG}, {"body": LONG})
        with pytest.raises(BadInput, match=r"2 records: 2 failed, .*no column 'text'; columns are 'body'"):
            _jsonl(path).survey(max_samples=None)

    def test_all_failures_are_counted_and_the_first_ten_are_listed(self, tmp_path: Path) -> None:
        path = write_lines(tmp_path / "a.jsonl", {"text": LONG}, *["broken"] * 25)
        survey = _jsonl(path).survey(max_samples=None)
        assert survey.failed == 25
        assert [item for item, _ in survey.failures] == list(range(1, 11))


class TestSamples:
    def test_a_blank_line_is_skipped_and_keeps_its_number(self, tmp_path: Path) -> None:
        path = write_lines(tmp_path / "a.jsonl", {"text": LONG}, "", " \t", {"text": LONG})
        survey = _jsonl(path).survey(max_samples=None)
        assert (survey.items_total, survey.samples, survey.skipped, survey.failed) == (4, 2, 2, 0)
        assert [record.number for record in _all(_jsonl(path)) if not too_short(record)] == [0, 3]

    @pytest.mark.parametrize(("text", "skipped"), [("x" * 10, 1), ("x" * 11, 0), (f"  {'x' * 10}  ", 1)])
    def test_a_sample_has_more_than_ten_characters(self, text: str, skipped: int, tmp_path: Path) -> None:
        path = write_lines(tmp_path / "a.jsonl", {"text": LONG}, {"text": text})
        assert _jsonl(path).survey(max_samples=None).skipped == skipped

    @pytest.mark.parametrize("lines", [[], [{"text": "short"}, {"text": "x" * 10}, ""]])
    def test_nothing_to_learn_from_is_bad_input(self, lines: list[Any], tmp_path: Path) -> None:
        path = write_lines(tmp_path / "a.jsonl", *lines)
        with pytest.raises(
            BadInput, match=rf"no sample to learn from \({len(lines)} records: 0 failed, {len(lines)} sh"
        ):
            _jsonl(path).survey(max_samples=None)

    def test_an_empty_file_among_others_is_none(self, tmp_path: Path) -> None:
        empty, full = write_lines(tmp_path / "0.jsonl"), write_lines(tmp_path / "1.jsonl", {"text": LONG})
        assert _all(_jsonl(empty, full, empty)) == [Item(number=0, value=LONG)]

    def test_max_samples_counts_only_what_can_be_learned(self, tmp_path: Path) -> None:
        lines: list[Any] = [{"text": "short"}, "broken", {"text": f"{LONG} 1"}, "", {"text": f"{LONG} 2"}]
        path = write_lines(tmp_path / "a.jsonl", *lines, {"text": f"{LONG} 3"}, "broken")
        survey = _jsonl(path).survey(max_samples=2)
        assert (survey.items_total, survey.samples, survey.failed, survey.skipped) == (5, 2, 1, 2)

    def test_more_samples_than_there_are_are_all(self, tmp_path: Path) -> None:
        path = write_lines(tmp_path / "a.jsonl", {"text": LONG}, {"text": LONG})
        survey = _jsonl(path).survey(max_samples=1000)
        assert (survey.items_total, survey.samples) == (2, 2)


class TestShards:
    @given(
        strategy=st.sampled_from(list(Strategy)),
        shards=st.integers(1, 7),
        files=st.lists(st.lists(st.text(alphabet="ab ", max_size=20), max_size=8), min_size=1, max_size=4),
    )
    def test_shards_read_the_items_that_the_survey_numbered(
        self, tmp_path_factory: pytest.TempPathFactory, strategy: Strategy, shards: int, files: list[list[str]]
    ) -> None:
        folder = tmp_path_factory.mktemp("shards")
        paths = [write_lines(folder / f"{number}.txt", *lines) for number, lines in enumerate(files)]
        everything = _all(_text(*paths))
        total = len(everything)
        assert [record.number for record in everything] == list(range(total))
        found: list[Item] = []
        for shard in range(shards):
            items = shard_items(strategy=strategy, shards=shards, shard=shard, total=total)
            read = list(_text(*paths).read(items))
            assert [record.number for record in read] == list(items)
            found.extend(read)
        assert sorted(found, key=lambda record: record.number) == everything

    def test_a_shard_of_an_uncounted_input_ends_with_it(self, tmp_path: Path) -> None:
        path = write_lines(tmp_path / "a.txt", *"abcdefg")
        items = shard_items(strategy=Strategy.ROUND_ROBIN, shards=3, shard=1, total=None)
        assert [record.value for record in _text(path).read(items)] == ["b", "e"]


class TestIdentityOfInput:
    def test_a_moved_input_is_the_same_input(self, tmp_path: Path) -> None:
        here = write_lines(tmp_path / "here.jsonl", {"text": LONG}, {"text": LONG})
        there = write_lines(tmp_path / "there.jsonl", {"text": LONG})
        prints = {
            _jsonl(here).survey(max_samples=None).fingerprint,
            _jsonl(there, there).survey(max_samples=None).fingerprint,
        }
        assert len(prints) == 1

    @given(files=st.lists(st.lists(st.sampled_from(["a", "b", "", "ab"]), max_size=3), min_size=1, max_size=3))
    def test_inputs_have_one_fingerprint_just_when_they_have_the_same_items(
        self, tmp_path_factory: pytest.TempPathFactory, files: list[list[str]]
    ) -> None:
        folder = tmp_path_factory.mktemp("prints")
        sample = write_lines(folder / "sample.txt", LONG)
        for number, lines in enumerate(files):
            (folder / f"{number}.txt").write_text("\n".join(lines))
        paths = [folder / f"{number}.txt" for number in range(len(files))]
        joined = write_lines(folder / "joined.txt", *(record.value for record in _all(_text(*paths))))
        glued = folder / "glued.txt"
        glued.write_bytes(b"".join(path.read_bytes() for path in paths))
        known = _text(sample, *paths).survey(max_samples=None).fingerprint
        assert _text(sample, joined).survey(max_samples=None).fingerprint == known
        same = [record.value for record in _all(_text(glued))] == [record.value for record in _all(_text(*paths))]
        assert (_text(sample, glued).survey(max_samples=None).fingerprint == known) == same

    def test_other_content_another_column_and_another_format_are_other_inputs(self, tmp_path: Path) -> None:
        path = write_lines(tmp_path / "a.jsonl", {"text": LONG, "body": LONG})
        other = write_lines(tmp_path / "b.jsonl", {"text": LONG, "body": LONG + "!"})
        sources = [_jsonl(path), _jsonl(other), _jsonl(path, column="body"), _text(path)]
        assert len({source.survey(max_samples=None).fingerprint for source in sources}) == 4

    def test_what_lies_beyond_max_samples_does_not_count(self, tmp_path: Path) -> None:
        path = write_lines(tmp_path / "a.jsonl", {"text": LONG}, {"text": LONG})
        before = _jsonl(path).survey(max_samples=1)
        write_lines(path, {"text": LONG}, {"text": "another"}, {"text": LONG})
        after = _jsonl(path).survey(max_samples=1)
        assert (after.fingerprint, after.items_total) == (before.fingerprint, before.items_total)

    def test_a_changed_file_is_noticed_by_its_size(self, tmp_path: Path) -> None:
        first, second = (
            write_lines(tmp_path / "1.jsonl", {"text": LONG}),
            write_lines(tmp_path / "2.jsonl", {"text": LONG}),
        )
        source = _jsonl(first, second)
        size = source.survey(max_samples=None).size_bytes
        assert size == first.stat().st_size + second.stat().st_size
        assert source.unchanged(size_bytes=size)
        write_lines(second, {"text": LONG}, {"text": LONG})
        assert not source.unchanged(size_bytes=size)
        second.unlink()
        assert not source.unchanged(size_bytes=size)


def test_a_line_that_unfolds_to_gigabytes_is_a_failed_item_and_not_held(tmp_path: Path) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(b'{"text": "')
        for _ in range(256):
            stream.write(b"a" * 2**20)
        stream.write(b'"}\n' + json.dumps({"text": LONG}).encode())
    source = _jsonl(path)
    tracemalloc.start()
    try:
        survey = source.survey(max_samples=None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert survey.failures == [(0, f"bomb.jsonl.gz line 1: the line is longer than {MAX_LINE_BYTES} bytes")]
    assert (survey.samples, survey.failed) == (1, 1)
    assert peak < 3 * MAX_LINE_BYTES < 256 * 2**20
    # What was passed over counts all the same: with other content it is another input.
    with gzip.open(path, "rb") as stream:
        content = stream.read()
    path.write_bytes(gzip.compress(content.replace(b'aaa"', b'aab"'), compresslevel=1))
    assert _jsonl(path).survey(max_samples=None).fingerprint != survey.fingerprint


def test_a_long_file_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl.gz"
    with gzip.open(path, "wt", compresslevel=1) as stream:
        for number in range(20_000):
            stream.write(json.dumps({"text": f"{number} {LONG * 40}"}) + "\n")
    source = _jsonl(path)
    tracemalloc.start()
    try:
        assert source.survey(max_samples=None).samples == 20_000
        assert sum(1 for _ in source.read(range(1, 20_000, 4))) == 5_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**20 < 20_000 * 40 * len(LONG)
