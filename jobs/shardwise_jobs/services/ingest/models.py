"""Requests and answers as the original has them, field by field; extra fields of a request are ignored."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictStr

from shardwise_jobs.engines.ingest.chunk import IngestRequest

EXAMPLES: list[Any] = [
    {
        "chunks": [
            {"text": "DNA replication copies genetic information.", "source_document": "bio.txt", "chunk_index": 0},
            {"text": "Each daughter cell gets one copy.", "source_document": "bio.txt", "chunk_index": 1},
        ],
        "dataset_source": "parallel_test",
        "skip_cpesh": True,
    },
    {"chunks": [{"text": "def main(): ...", "domain_code": 15, "task_code": 14, "modifier_code": 9}]},
]
_RESULT: dict[str, Any] = {
    "global_id": "3f0b0f0e-8f4e-5c7a-9b0e-5d1b0c6d2a11",
    "concept_text": "DNA replication copies genetic information.",
    "tmd_codes": {"domain": 0, "task": 3, "modifier": 0},
    "vector_dimension": 400,
    "confidence_score": 0.09,
    "quality_metrics": {"cpesh_completeness": 0.2, "vector_norm": 1.0, "vector_dimension": 384, "text_length": 43},
    "created_at": "2026-11-21T23:00:00Z",
    "parent_cpe_ids": [],
    "child_cpe_ids": ["a7c1c3a4-6d0c-5b0f-8f39-0d8b4f2a9f10"],
    "success": True,
    "error": None,
    "timings_ms": {"tmd_ms": 887.0, "embedding_ms": 10.5, "fuse_ms": 0.1, "postgres_ms": 2.8},
    "backends": {"cpesh": "disabled", "tmd": "ollama:http://ollama:11434", "embedding": "inproc:onnx:all-MiniLM-L6-v2"},
}


class Request(IngestRequest):
    """Body of `POST /ingest`."""

    model_config = ConfigDict(json_schema_extra={"examples": EXAMPLES})

    # As in a manifest; no database takes a NUL.
    dataset_source: StrictStr = Field(default="user_input", min_length=1, max_length=253, pattern=r"^[^\x00]*$")


class Result(BaseModel):
    """What became of a chunk."""

    model_config = ConfigDict(json_schema_extra={"examples": [_RESULT]})

    global_id: str = Field(description="The row's cpe_id, a UUID that follows from the chunk; empty when it failed.")
    concept_text: str
    tmd_codes: dict[str, int] = Field(description="domain, task and modifier; empty when it failed.")
    vector_dimension: int = Field(description="Of the fused vector: the text's numbers and 16 of the codes.")
    confidence_score: float
    quality_metrics: dict[str, Any]
    created_at: str = Field(description="UTC. When the row was first written, which may be before this request.")
    parent_cpe_ids: list[str]
    child_cpe_ids: list[str]
    success: bool
    error: str | None = Field(description="Why the chunk failed; nothing was stored of it.")
    timings_ms: dict[str, float] = Field(description="Phases of the request, each divided by its chunks.")
    backends: dict[str, str]


class Answer(BaseModel):
    """Answer of `POST /ingest`."""

    results: list[Result] = Field(description="One per chunk, in the request's order.")
    total_chunks: int
    successful: int
    failed: int
    batch_id: str = Field(description="The request's own, whatever text that is, or a new UUID.")
    processing_time_ms: float


class Health(BaseModel):
    """Answer of `GET /health`."""

    status: Literal["healthy", "degraded"] = Field(description="degraded: the store can't be reached.")
    postgresql: bool = Field(description="Whether the store answers, be it PostgreSQL or SQLite.")
    faiss: bool = Field(description="Whether the library is there; the index is built by `shardwise ingest index`.")
    gtr_t5_api: bool = Field(description="Whether the embedding model is loaded; the service does not start without.")
    tmd_router_api: bool = Field(description="Whether whoever gives codes can be asked.")
    llm_endpoint: str | None = Field(description="null where no LLM is asked.")
    issues: list[str] = Field(description="What is wrong, in words.")


class Stats(BaseModel):
    """Answer of `GET /stats`: counts of the service on this store, earlier starts included."""

    total_chunks_processed: int
    successfully_ingested: int
    failed: int
    success_rate: float = Field(description="Percent.")


class Info(BaseModel):
    """Answer of `GET /`."""

    service: str
    version: str
    status: str
    tmd_backend: str = Field(description="ollama, embedded or client.")
    tmd_name: str = Field(description="What the rows say of it.")
    llm_endpoint: str | None
    embedding_model: str
    vector_dimension: int
    store: str
    settings: dict[str, Any]
    endpoints: dict[str, str]


class Problem(BaseModel):
    """Why a request was not worked."""

    detail: str
