"""Chunks: what the interface takes, and what each way of being wrong costs: the chunk, or the whole document."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from shardwise.engine.errors import BadInput
from shardwise_jobs.engines.ingest.chunk import (
    MAX_DEPTH,
    MAX_LINE_BYTES,
    MAX_TEXT_BYTES,
    BadChunk,
    Chunk,
    IngestRequest,
    flaw,
    parse_request,
    read_jsonl,
    read_request,
)
from shardwise_jobs.engines.ingest.codes import Codes

EXAMPLE = {
    "chunks": [{"text": "DNA replication copies genetic information.", "source_document": "bio.txt", "chunk_index": 0}],
    "dataset_source": "parallel_test",
    "skip_cpesh": True,
}


def _request(*chunks: Any, **head: Any) -> io.BytesIO:
    return io.BytesIO(json.dumps({"chunks": chunks, **head}).encode())


def _only(chunk: Any) -> Chunk | BadChunk:
    """Read a chunk as a request and as a line, which must say the same of it, and return what the request said."""
    (read,) = read_request(_request(chunk))
    (line,) = read_jsonl(io.BytesIO(json.dumps(chunk).encode()))
    if isinstance(read, BadChunk):
        assert isinstance(line, BadChunk)
        assert read.reason.removeprefix("request: chunk 0: ") == line.reason.removeprefix("chunks: chunk 0 (line 1): ")
    else:
        assert read == line
    return read


def _reason(chunk: Any) -> str:
    bad = _only(chunk)
    assert isinstance(bad, BadChunk)
    return bad.reason


class TestInterface:
    def test_the_worked_example_is_read(self) -> None:
        head, chunks = parse_request(json.dumps(EXAMPLE).encode())
        assert (head.dataset_source, head.skip_cpesh, head.batch_id) == ("parallel_test", True, None)
        (chunk,) = chunks
        assert isinstance(chunk, Chunk)
        assert (chunk.text, chunk.source_document) == (EXAMPLE["chunks"][0]["text"], "bio.txt")  # type: ignore[index]
        assert IngestRequest.model_validate(EXAMPLE).chunks == chunks

    def test_what_is_left_out_has_the_interfaces_defaults(self) -> None:
        head, _ = parse_request(_request({"text": "a"}).read())
        assert head.model_dump() == {
            "dataset_source": "user_input",
            "batch_id": None,
            "skip_cpesh": False,
            "chunking_time_ms": None,
        }
        chunk = _only({"text": "a", "colour": "unknown fields are ignored"})
        assert isinstance(chunk, Chunk)
        assert (chunk.source_document, chunk.chunk_index, chunk.document) == ("web_input", 0, "web_input")
        assert chunk.parent_cpe_ids is None

    def test_a_documents_id_names_it_before_its_source(self) -> None:
        assert Chunk(text="a", document_id="D", source_document="s").document == "D"

    def test_codes_are_given_when_all_three_are(self) -> None:
        assert Chunk(text="a", domain_code=15, task_code=14, modifier_code=9).codes == Codes(15, 14, 9)
        assert Chunk(text="a", domain_code=0, task_code=0, modifier_code=0).codes == Codes(0, 0, 0)
        assert Chunk(text="a", domain_code=15, task_code=14).codes is None

    def test_a_request_without_chunks_breaks_the_interface(self) -> None:
        with pytest.raises(ValidationError, match="chunks"):
            IngestRequest.model_validate({"chunks": []})


class TestBadChunks:
    @pytest.mark.parametrize(
        ("chunk", "reason"),
        [
            ({"text": ""}, "text: String should have at least 1 character"),
            ({"text": " \n\t "}, "text: is blank"),
            ({}, "text: Field required"),
            ({"text": None}, "text: Input should be a valid string"),
            ({"text": 7}, "text: Input should be a valid string"),
            ({"text": "a\x00b"}, "text: holds a NUL character at 1, which databases refuse"),
            ({"text": "a", "article_title": "\x00"}, "article_title: holds a NUL character at 0"),
            ({"text": "a", "metadata": {"k": [{"\x00": 1}]}}, "metadata: holds a NUL character at 0"),
            ({"text": "a", "parent_cpe_ids": ["x\x00"]}, "parent_cpe_ids: holds a NUL character at 1"),
            ({"text": "ab\ud800"}, "text: holds half a surrogate pair at 2, which is not UTF-8"),
            ({"text": "a", "document_id": "\udc00"}, "document_id: holds half a surrogate pair at 0"),
            ({"text": "a", "domain_code": 16}, "domain_code: Input should be less than 16"),
            ({"text": "a", "task_code": 32}, "task_code: Input should be less than 32"),
            ({"text": "a", "modifier_code": -1}, "modifier_code: Input should be greater than or equal to 0"),
            ({"text": "a", "domain_code": True}, "domain_code: Input should be a valid integer"),
            ({"text": "a", "task_code": 1.5}, "task_code: Input should be a valid integer"),
            ({"text": "a", "chunk_index": "0"}, "chunk_index: Input should be a valid integer"),
            ({"text": "a", "metadata": [1]}, "metadata: Input should be a valid dictionary"),
            ("text", "not a JSON object but str"),
            (None, "not a JSON object but null"),
        ],
    )
    def test_each_names_its_field(self, chunk: Any, reason: str) -> None:
        assert _reason(chunk).startswith(f"request: chunk 0: {reason}")

    def test_many_wrongs_are_told_in_short(self) -> None:
        wrong = {"domain_code": 16, "task_code": 32, "modifier_code": 64, "chunk_index": "x", "text": ""}
        assert _reason(wrong).endswith("; and 2 more")

    @pytest.mark.parametrize("letter", ["a", "é", "字"])
    def test_a_text_must_stay_under_the_limit_in_bytes(self, letter: str) -> None:
        width = len(letter.encode())
        fits, too_long = MAX_TEXT_BYTES // width - 1, -(-MAX_TEXT_BYTES // width)
        assert isinstance(_only({"text": letter * fits}), Chunk)
        assert f"text: {too_long * width} bytes are too many" in _reason({"text": letter * too_long})

    def test_a_number_no_database_takes_is_refused(self) -> None:
        (chunk,) = read_jsonl(io.BytesIO(b'{"text": "a", "metadata": {"n": 1e999}}'))
        assert chunk == BadChunk(
            reason="chunks: chunk 0 (line 1): metadata: holds a number that is too big for a float"
        )

    def test_the_service_sees_the_same_flaws_in_chunks_that_keep_to_the_interface(self) -> None:
        assert flaw(Chunk(text="fine")) is None
        assert flaw(Chunk(text="  ")) == "text: is blank"
        assert flaw(Chunk(text="a\x00")) == "text: holds a NUL character at 1, which databases refuse"
        assert str(flaw(Chunk(text="a" * MAX_TEXT_BYTES))).startswith("text: 1000000 bytes are too many")

    def test_a_bad_chunk_costs_itself_and_is_named_by_its_index(self) -> None:
        before, bad, after = read_request(_request({"text": "one"}, {"text": "\x00"}, {"text": "three"}))
        assert isinstance(bad, BadChunk)
        assert bad.reason.startswith("request: chunk 1: text: ")
        assert [chunk.text for chunk in (before, after) if isinstance(chunk, Chunk)] == ["one", "three"]


class TestRequestDocuments:
    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "not JSON: Expecting value"),
            (b'{"chunks": [', "not JSON: Expecting value"),
            (b'{"chunks": [{"text": "\xff"}]}', "not UTF-8: byte 0xff at 22"),
            ('{"chunks": [{"text": "a"}]}'.encode("utf-16"), "not UTF-8: byte 0xff at 0"),
            (b'{"chunks": [{"text": "a"}], "chunking_time_ms": NaN}', "not JSON: NaN is no JSON number"),
            (b"[" * 100_000, "not JSON: nested too deep"),
            (b"[1]", "not a JSON object but list"),
            (b"{}", "chunks: a list is needed, found null"),
            (b'{"chunks": {}}', "chunks: a list is needed, found dict"),
            (b'{"chunks": []}', "chunks: at least 1 is needed"),
            (b'{"chunks": [{"text": "a"}], "dataset_source": 5}', "dataset_source: Input should be a valid string"),
            (b'{"chunks": [{"text": "a"}], "skip_cpesh": "no"}', "skip_cpesh: Input should be a valid boolean"),
        ],
    )
    def test_a_broken_one_is_bad_input_as_a_whole(self, content: bytes, reason: str) -> None:
        with pytest.raises(BadInput) as error:
            read_request(io.BytesIO(content), where="big.json")
        assert str(error.value).startswith(f"big.json: {reason}")
        assert "\n" not in str(error.value)

    def test_a_byte_order_mark_is_no_part_of_it(self) -> None:
        (chunk,) = read_request(io.BytesIO(b"\xef\xbb\xbf" + _request({"text": "a"}).read()))
        assert chunk == Chunk(text="a")


class TestLines:
    def test_each_line_is_a_chunk_and_blank_ones_are_none(self) -> None:
        chunks = read_jsonl(io.BytesIO(b'{"text": "one"}\r\n\n   \n{"text": "two"}'))
        assert list(chunks) == [Chunk(text="one"), Chunk(text="two")]

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (b'{"text": "\xff"}', "not UTF-8: byte 0xff at 10"),
            (b'{"text": ', "not JSON: Expecting value"),
            (b'{"text": "a", "metadata": {"n": Infinity}}', "not JSON: Infinity is no JSON number"),
            (b"[" * 100_000, "not JSON: nested too deep"),
            (b'{"text": "a", "chunk_index": ' + b"9" * 5000 + b"}", "not JSON: Exceeds the limit"),
        ],
    )
    def test_a_broken_line_costs_itself(self, line: bytes, reason: str) -> None:
        before, bad, after = read_jsonl(io.BytesIO(b'{"text": "1"}\n\n' + line + b'\n{"text": "3"}\n'), where="a.jsonl")
        assert (before, after) == (Chunk(text="1"), Chunk(text="3"))
        assert isinstance(bad, BadChunk)
        assert bad.reason.startswith(f"a.jsonl: chunk 1 (line 3): {reason}")

    @pytest.mark.parametrize(("open", "close"), [(b"[", b"]"), (b'{"k": ', b"}")], ids=["lists", "objects"])
    def test_a_chunk_nested_too_deep_to_be_written_again_is_a_bad_one_by_its_field(
        self, open: bytes, close: bytes
    ) -> None:
        def line(depth: int) -> bytes:
            return b'{"text": "a", "metadata": {"k": ' + open * depth + b"1" + close * depth + b"}}\n"

        deepest = MAX_DEPTH - 1
        good, bad, other, after = read_jsonl(io.BytesIO(line(deepest) + line(deepest + 1) + line(300) + line(0)))
        assert isinstance(good, Chunk)
        assert good.model_dump_json()
        for number, each in ((1, bad), (2, other)):
            assert isinstance(each, BadChunk)
            assert each.reason.startswith(f"chunks: chunk {number} (line {number + 1}): metadata: is nested too deep")
        assert after == Chunk(text="a", metadata={"k": 1})

    def test_metadata_as_deep_as_it_may_be_is_looked_through(self) -> None:
        deep = b'{"text": "a", "metadata": {"k": ' + b"[" * 190 + b'"\\u0000"' + b"]" * 190 + b"}}"
        (bad,) = read_jsonl(io.BytesIO(deep))
        assert isinstance(bad, BadChunk)
        assert "metadata: holds a NUL character" in bad.reason

    def test_metadata_as_deep_as_the_parser_takes_is_no_more_than_a_bad_chunk(self) -> None:
        (bad,) = read_jsonl(io.BytesIO(b'{"text": "a", "metadata": {"k": ' + b"[" * 900 + b"]" * 900 + b"}}"))
        assert isinstance(bad, BadChunk)
        assert "metadata: is nested too deep" in bad.reason

    def test_a_line_without_end_is_passed_over_in_bounded_memory(self, tmp_path: Path) -> None:
        path = tmp_path / "endless.jsonl"
        with path.open("wb") as stream:
            for _ in range(8):
                stream.write(b"x" * MAX_LINE_BYTES)
            stream.write(b'\n{"text": "next"}\n')
        tracemalloc.start()
        try:
            with path.open("rb") as stream:
                bad, good = read_jsonl(stream)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert bad == BadChunk(reason=f"chunks: chunk 0 (line 1): the line is longer than {MAX_LINE_BYTES} bytes")
        assert good == Chunk(text="next")
        assert peak < 4 * MAX_LINE_BYTES
