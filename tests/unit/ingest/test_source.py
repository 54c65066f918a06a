"""The input: items numbered over all files, the same ids and links in every shard, one writer for each row."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from shardwise.engine.errors import BadConfiguration, BadInput
from shardwise_api.common import Strategy
from shardwise_api.ingest import Dedup, SourceFiles, SourceFormat
from shardwise_api.sharding import shard_items
from shardwise_jobs.engines.ingest import chunk
from shardwise_jobs.engines.ingest.source import ChunkFiles, Entry


def _chunk(text: str, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"text": text, "source_document": "d", "chunk_index": index, **more}


def _files(
    *paths: Path, format: SourceFormat = SourceFormat.REQUEST, dataset: str = "x", dedup: Dedup = Dedup.POSITION
) -> ChunkFiles:
    return ChunkFiles(SourceFiles(uris=[str(path) for path in paths], format=format), dataset=dataset, dedup=dedup)


def _request(path: Path, *made: Any) -> Path:
    path.write_text(json.dumps({"chunks": made}), encoding="utf-8")
    return path


def _lines(path: Path, *made: Any) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in made), encoding="utf-8")
    return path


def _texts(entries: Sequence[Entry]) -> list[str | None]:
    return [None if entry.chunk is None else entry.chunk.text for entry in entries]


def test_items_are_counted_over_all_files_in_their_order(tmp_path: Path) -> None:
    files = _files(
        _request(tmp_path / "b.json", _chunk("one"), _chunk("two", 1)),
        _request(tmp_path / "a.json", _chunk("three", 2)),
    )
    entries = list(files.entries(range(3)))
    assert [entry.item for entry in entries] == [0, 1, 2]
    assert _texts(entries) == ["one", "two", "three"]
    assert files.survey().items_total == 3


def test_a_document_that_goes_on_in_the_next_file_is_linked_across_them(tmp_path: Path) -> None:
    files = _files(_request(tmp_path / "a.json", _chunk("one")), _request(tmp_path / "b.json", _chunk("two", 1)))
    one, two = files.entries(range(2))
    assert one.links.children == (str(two.cpe_id),)
    assert two.links.parents == (str(one.cpe_id),)


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("shards", [1, 2, 5])
def test_every_item_is_in_one_shard_and_looks_the_same_from_there(
    tmp_path: Path, strategy: Strategy, shards: int
) -> None:
    made = [_chunk(f"text {n}", n % 4, source_document=f"d{n // 4}") for n in range(9)]
    made[4] = _chunk(" ")
    made.append(dict(made[2]))
    files = _files(_request(tmp_path / "a.json", *made))
    whole = list(files.entries(range(10)))
    seen = [
        entry
        for shard in range(shards)
        for entry in files.entries(shard_items(strategy=strategy, shards=shards, shard=shard, total=10))
    ]
    assert sorted(seen, key=lambda entry: entry.item) == whole
    assert [entry.item for entry in whole if entry.duplicate] == [9]
    assert [entry.item for entry in whole if entry.failure] == [4]


def test_the_first_of_equal_chunks_writes_the_row(tmp_path: Path) -> None:
    path = _request(tmp_path / "a.json", _chunk("same"), _chunk("same"), _chunk("same", 1))
    assert [entry.duplicate for entry in _files(path).entries(range(3))] == [False, True, False]
    by_content = _files(path, dedup=Dedup.CONTENT)
    assert [entry.duplicate for entry in by_content.entries(range(3))] == [False, True, True]
    assert by_content.survey().duplicates == 2


def test_of_equal_chunks_the_first_with_codes_writes_the_row(tmp_path: Path) -> None:
    codes = {"domain_code": 1, "task_code": 2, "modifier_code": 3}
    path = _request(tmp_path / "a.json", _chunk("same"), _chunk("same", **codes), _chunk("same", **codes))
    assert [entry.duplicate for entry in _files(path).entries(range(3))] == [True, False, True]


def test_links_of_the_sender_are_taken_as_they_are(tmp_path: Path) -> None:
    path = _request(tmp_path / "a.json", _chunk("one"), _chunk("two", 1, parent_cpe_ids=["p"]))
    links = next(iter(_files(path).entries(range(1, 2)))).links
    assert (links.parents, links.children) == (("p",), ())


def test_another_data_set_has_other_ids(tmp_path: Path) -> None:
    path = _request(tmp_path / "a.json", _chunk("one"))
    (one,), (other,) = (list(_files(path, dataset=name).entries(range(1))) for name in ("x", "y"))
    assert one.cpe_id != other.cpe_id


def test_the_same_chunks_are_the_same_input_however_they_are_written_down(tmp_path: Path) -> None:
    made = [_chunk("one"), _chunk("zwei\N{LATIN SMALL LETTER U WITH DIAERESIS}", 1)]
    request = _request(tmp_path / "a.json", *made)
    lines = _lines(tmp_path / "b.jsonl", *made)
    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress(lines.read_bytes()))
    parts = [_lines(tmp_path / f"{number}.jsonl", each) for number, each in enumerate(made)]
    found = {
        _files(request).survey().fingerprint,
        *(_files(path, format=SourceFormat.JSONL).survey().fingerprint for path in (lines, packed)),
        _files(*parts, format=SourceFormat.JSONL).survey().fingerprint,
    }
    assert len(found) == 1
    assert _files(_request(tmp_path / "c.json", *made[::-1])).survey().fingerprint not in found


def test_a_bad_line_is_a_failed_item_and_named_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "one"}\n\n{"text": "\xff"}\n{"text": "three"}\n')
    files = _files(path, format=SourceFormat.JSONL)
    survey = files.survey()
    assert (survey.items_total, survey.failed) == (3, 1)
    assert survey.failures == ((1, "a.jsonl: chunk 1 (line 3): not UTF-8: byte 0xff at 10"),)
    assert _texts(list(files.entries(range(3)))) == ["one", None, "three"]


def test_only_the_first_failures_are_listed(tmp_path: Path) -> None:
    survey = _files(_request(tmp_path / "a.json", _chunk("one"), *[{"text": ""}] * 25)).survey()
    assert (survey.failed, len(survey.failures)) == (25, 10)


def test_an_input_without_a_chunk_is_bad_input(tmp_path: Path) -> None:
    empty = tmp_path / "a.jsonl"
    empty.write_text("\n")
    with pytest.raises(BadInput, match=r"^spec\.source\.files\.uris: no chunk that can be ingested \(0 found\)$"):
        _files(empty, format=SourceFormat.JSONL).survey()


def test_a_broken_compressed_file_is_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(_chunk("x" * 10_000)).encode())[:-12])
    with pytest.raises(BadInput, match=r"^spec\.source\.files\.uris: .*a\.jsonl\.gz: the compressed file is broken"):
        _files(path, format=SourceFormat.JSONL).survey()


def test_a_file_in_utf16_is_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "windows.jsonl"
    path.write_text(json.dumps(_chunk("text")), encoding="utf-16-le")
    with pytest.raises(BadInput, match=r"^spec\.source\.files\.uris: windows\.jsonl: the text is UTF-16"):
        _files(path, format=SourceFormat.JSONL).survey()


def test_a_request_that_unfolds_to_gigabytes_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.json.gz"
    path.write_bytes(gzip.compress(b" " * 2**20))
    monkeypatch.setattr(chunk, "MAX_REQUEST_BYTES", 2**19)
    with pytest.raises(BadInput, match=r"bomb\.json\.gz: longer than 524288 bytes"):
        _files(path).survey()


def test_a_file_that_is_not_there_is_bad_configuration(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match=r"^spec\.source\.files\.uris: .*none\.json: No such file"):
        _files(tmp_path / "none.json").survey()


def test_a_file_that_grew_is_noticed_without_reading_it(tmp_path: Path) -> None:
    path = _lines(tmp_path / "a.jsonl", _chunk("one"))
    files = _files(path, format=SourceFormat.JSONL)
    size = files.survey().size_bytes
    assert files.unchanged(size_bytes=size)
    path.write_bytes(path.read_bytes() * 2)
    assert not files.unchanged(size_bytes=size)


def test_another_input_than_the_surveyed_one_is_refused_before_any_entry(tmp_path: Path) -> None:
    path = _request(tmp_path / "a.json", _chunk("one"), _chunk("two", 1))
    files = _files(path)
    fingerprint = files.survey().fingerprint
    assert len(list(files.entries(range(2), fingerprint=fingerprint))) == 2
    _request(path, _chunk("one"), _chunk("owt", 1))
    with pytest.raises(
        BadInput, match=r"^spec\.source\.files\.uris: the input has changed since this run was prepared"
    ):
        next(files.entries(range(1), fingerprint=fingerprint))


@pytest.mark.parametrize(
    "now",
    [
        [_chunk("owt", 1), _chunk("three", 2)],
        [_chunk("two", 1, domain_code=1, task_code=1, modifier_code=1), _chunk("three", 2)],
        [_chunk("two", 1, parent_cpe_ids=["p"]), _chunk("three", 2)],
        [_chunk(" ", 1), _chunk("three", 2)],
        [_chunk("two", 1)],
        [],
    ],
    ids=["text", "codes", "links", "blank", "shorter", "empty"],
)
def test_an_input_that_changes_while_it_is_read_gives_no_entry_that_it_never_had(
    tmp_path: Path, now: list[dict[str, Any]]
) -> None:
    first = _lines(tmp_path / "a.jsonl", _chunk("one"))
    second = _lines(tmp_path / "b.jsonl", _chunk("two", 1), _chunk("three", 2))
    files = _files(first, second, format=SourceFormat.JSONL)
    wanted = list(files.entries(range(3)))
    coming = files.entries(range(3), fingerprint=files.survey().fingerprint)
    # The second file is opened again only when the first has come to its end.
    found = [next(coming)]
    _lines(second, *now)
    with pytest.raises(BadInput, match="the input has changed since this run was prepared"):
        found += coming
    assert found == wanted[: len(found)]
