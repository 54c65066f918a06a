"""The interface of the original, field by field, and what it refuses."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from shardwise_jobs.engines.ingest.identifiers import cpe_id
from shardwise_jobs.engines.ingest.row_builder import batch_uuid
from shardwise_jobs.engines.ingest.stores import Row
from tests.support.ingest_service import IngestService, Json, rows_of, texts_of

CODES = {"domain_code": 15, "task_code": 14, "modifier_code": 9}
DNA = "DNA replication copies genetic information."


def stored(service: IngestService, dataset: str) -> dict[str, Row]:
    """Return the rows of a data set, by text."""
    return {row.source_chunk: row for row in rows_of(service.store) if row.dataset_source == dataset}


def test_an_answer_has_every_field_of_the_original(service: IngestService) -> None:
    answer = service.ingest(
        {"text": DNA, "source_document": "bio.txt", "chunk_index": 0, "metadata": {"page": 7}, **CODES},
        dataset_source="fields",
        batch_id="seed-batch-1",
        skip_cpesh=True,
        chunking_time_ms=1.5,
    )
    (result,) = answer.pop("results")
    timings, created = result.pop("timings_ms"), result.pop("created_at")
    assert answer.pop("processing_time_ms") > 0
    assert answer == {"total_chunks": 1, "successful": 1, "failed": 0, "batch_id": "seed-batch-1"}
    assert result == {
        "global_id": str(cpe_id(dataset_source="fields", document="bio.txt", chunk_index=0, text=DNA)),
        "concept_text": DNA,
        "tmd_codes": {"domain": 15, "task": 14, "modifier": 9},
        "vector_dimension": 24,
        "confidence_score": 0.09,
        "quality_metrics": {
            "cpesh_completeness": 0.2,
            "vector_norm": 1.0,
            "vector_dimension": 8,
            "text_length": 43,
            "concept_length": 43,
            "soft_negatives_count": 0,
            "hard_negatives_count": 0,
            "total_negatives": 0,
        },
        "parent_cpe_ids": [],
        "child_cpe_ids": [],
        "success": True,
        "error": None,
        "backends": {
            "cpesh": "disabled",
            "tmd": "client-provided",
            "embedding": "inproc:onnx:tiny@1",
            "faiss": "deferred",
        },
    }
    assert timings.keys() == {
        "cpesh_ms", "tmd_ms", "embedding_ms", "tmd_encode_ms", "fuse_ms", "postgres_ms", "faiss_ms",
    }  # fmt: skip
    assert timings["embedding_ms"] > 0
    assert timings["postgres_ms"] > 0
    row = stored(service, "fields")[DNA]
    assert row.created_at is not None
    assert created == row.created_at.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_chunk_that_fails_costs_none_of_the_others(service: IngestService) -> None:
    bad: dict[str, Json] = {
        "text: is blank": {"text": " \n "},
        "text: holds a NUL character at 1, which databases refuse": {"text": "a\0b"},
        "text: 1000000 bytes are too many for a chunk, which must stay under 1000000": {"text": "x" * 1_000_000},
        "source_document: holds a NUL character at 0, which databases refuse": {"text": "x", "source_document": "\0"},
    }
    answer = service.ingest({"text": "first"}, *bad.values(), {"text": "last"}, dataset_source="failing")
    assert (answer["total_chunks"], answer["successful"], answer["failed"]) == (6, 2, 4)
    assert texts_of(answer, success=True) == ["first", "last"]
    for result, reason in zip(answer["results"][1:-1], bad, strict=True):
        assert result["error"] == reason
        assert (result["success"], result["global_id"], result["tmd_codes"]) == (False, "", {})
        assert (result["vector_dimension"], len(result["concept_text"]) <= 200) == (0, True)
    assert stored(service, "failing").keys() == {"first", "last"}


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "body.chunks"),
        ({"chunks": []}, "body.chunks"),
        ({"chunks": [{}]}, "body.chunks.0.text"),
        ({"chunks": [{"text": ""}]}, "body.chunks.0.text"),
        ({"chunks": [{"text": 7}]}, "body.chunks.0.text"),
        ({"chunks": [{"text": "x", "domain_code": 16}]}, "body.chunks.0.domain_code"),
        ({"chunks": [{"text": "x", "task_code": -1}]}, "body.chunks.0.task_code"),
        ({"chunks": [{"text": "x", "modifier_code": 64}]}, "body.chunks.0.modifier_code"),
        ({"chunks": [{"text": "x", "parent_cpe_ids": "a"}]}, "body.chunks.0.parent_cpe_ids"),
        ({"chunks": [{"text": "x"}], "dataset_source": ""}, "body.dataset_source"),
        ({"chunks": [{"text": "x"}], "dataset_source": "a\0"}, "body.dataset_source"),
        ({"chunks": [{"text": "x"}], "skip_cpesh": "perhaps"}, "body.skip_cpesh"),
        ([], "body"),
    ],
)
def test_a_body_that_breaks_the_interface_is_422_and_the_field_is_named(
    service: IngestService, body: Any, where: str
) -> None:
    answer = service.send("POST", "/ingest", body, status=422)
    assert ".".join(map(str, answer["detail"][0]["loc"])) == where


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{", id="cut off"),
        pytest.param(b'{"chunks": [{"text": "\\ud800"}]}', id="half a pair"),
        pytest.param(b"\xff", id="not UTF-8"),
        pytest.param(b'{"chunks": NaN}', id="not a number"),
        pytest.param(b'{"x": 1e999}', id="a number too big"),
        pytest.param(b'{"chunks": ' + b"[" * 9999, id="too deep"),
    ],
)
def test_what_is_no_json_is_422_too(service: IngestService, body: bytes) -> None:
    response = service.http.post("/ingest", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"][0] == "body"


def test_a_number_that_no_float_holds_is_the_failure_of_its_chunk(service: IngestService) -> None:
    body = b'{"chunks": [{"text": "x", "metadata": {"n": 1e999}}]}'
    response = service.http.post("/ingest", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 200
    assert response.json()["results"][0]["error"] == "metadata: holds a number that is too big for a float"


def test_a_body_without_end_is_413(service: IngestService) -> None:
    response = service.http.post(
        "/ingest", content=b" " * (64 * 2**20 + 1), headers={"content-type": "application/json"}
    )
    assert response.status_code == 413
    assert "send less at once" in response.json()["detail"]


def test_a_batch_id_may_be_any_text_and_finds_the_rows(service: IngestService) -> None:
    named = service.ingest({"text": "named"}, {"text": "own", "document_id": "d"}, batch_id="b 1", dataset_source="b")
    new = service.ingest({"text": "new"}, dataset_source="b")
    assert named["batch_id"] == "b 1"
    found = {text: row.batch_id for text, row in stored(service, "b").items()}
    assert found == {"named": batch_uuid("b 1"), "own": batch_uuid("d"), "new": uuid.UUID(new["batch_id"])}


def test_chunks_of_a_document_are_linked_unless_the_sender_linked_them(service: IngestService) -> None:
    chunks = [{"text": f"part {at}", "source_document": "doc", "chunk_index": at} for at in (2, 0, 1)]
    own = {"text": "own", "source_document": "doc", "chunk_index": 3, "parent_cpe_ids": ["p"], "child_cpe_ids": []}
    answer = service.ingest(*chunks, own, {"text": "else", "source_document": "other"}, dataset_source="links")
    ids = {result["concept_text"]: result["global_id"] for result in answer["results"]}
    wanted = {
        "part 0": ([], [ids["part 1"]]),
        "part 1": ([ids["part 0"]], [ids["part 2"]]),
        "part 2": ([ids["part 1"]], [ids["own"]]),
        "own": (["p"], []),
        "else": ([], []),
    }
    answered = {
        result["concept_text"]: (result["parent_cpe_ids"], result["child_cpe_ids"]) for result in answer["results"]
    }
    written = {
        text: (list(row.parent_cpe_ids), list(row.child_cpe_ids)) for text, row in stored(service, "links").items()
    }
    assert answered == written == wanted


def test_a_request_that_is_repeated_inserts_nothing_and_gets_the_same_answer(service: IngestService) -> None:
    chunks = [{"text": f"again {at}", "chunk_index": at} for at in range(5)]
    first = service.ingest(*chunks, dataset_source="again")
    rows = stored(service, "again")
    # Who sends other codes for what is a row already is told the row's.
    second = service.ingest(*({**chunk, **CODES} for chunk in chunks), dataset_source="again")
    different = {"timings_ms"}
    assert [{k: v for k, v in each.items() if k not in different} for each in second["results"]] == [
        {k: v for k, v in each.items() if k not in different} for each in first["results"]
    ]
    assert second["results"][0]["timings_ms"]["embedding_ms"] == 0
    again = stored(service, "again")
    assert {text: row.created_at for text, row in again.items()} == {text: row.created_at for text, row in rows.items()}


def test_a_chunk_that_is_there_twice_is_one_row_with_the_codes_it_was_sent_with(service: IngestService) -> None:
    answer = service.ingest({"text": "twice"}, {"text": "twice", **CODES}, dataset_source="twice")
    assert [result["tmd_codes"]["domain"] for result in answer["results"]] == [15, 15]
    assert len({result["global_id"] for result in answer["results"]}) == 1
    assert (answer["successful"], len(stored(service, "twice"))) == (2, 1)


def test_the_interface_describes_itself_with_examples_that_work(service: IngestService) -> None:
    described = service.get("/openapi.json")
    assert {(path, *methods) for path, methods in described["paths"].items()} == {
        ("/", "get"), ("/ingest", "post"), ("/health", "get"), ("/stats", "get"),
    }  # fmt: skip
    assert described["paths"]["/ingest"]["post"]["responses"].keys() == {"200", "413", "422", "503"}
    examples = described["components"]["schemas"]["Request"]["examples"]
    assert len(examples) == 2
    for example in examples:
        assert service.send("POST", "/ingest", example)["failed"] == 0
    (shown,) = described["components"]["schemas"]["Result"]["examples"]
    # The description leaves out what is null.
    assert shown.keys() | {"error"} == service.ingest({"text": "shape"})["results"][0].keys()
    assert service.http.get("/docs").status_code == 200


def test_the_root_tells_what_is_in_force(service: IngestService) -> None:
    info = service.get("/")
    assert (info["tmd_backend"], info["tmd_name"]) == ("embedded", "embedded-v1:onnx:tiny@1")
    assert (info["embedding_model"], info["vector_dimension"]) == ("onnx:tiny@1", 24)
    assert (info["store"], info["llm_endpoint"]) == ("sqlite store chunks.db", None)
    assert info["settings"] == {
        "LNSP_ENABLE_PARALLEL": True,
        "LNSP_MAX_PARALLEL_WORKERS": 10,
        "LNSP_ENABLE_BATCH_EMBEDDINGS": True,
    }
    assert service.get("/health") == {
        "status": "healthy",
        "postgresql": True,
        "faiss": True,
        "gtr_t5_api": True,
        "tmd_router_api": True,
        "llm_endpoint": None,
        "issues": [],
    }
    for path in info["endpoints"]:
        method, where = path.split()
        assert service.http.request(method, where).status_code == (422 if method == "POST" else 200)


def test_a_body_of_another_kind_is_refused(service: IngestService) -> None:
    response = service.http.post("/ingest", data={"chunks": json.dumps([{"text": "x"}])})
    assert response.status_code == 422
