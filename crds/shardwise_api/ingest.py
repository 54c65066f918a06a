"""The blocks of an IngestRun: chunks, TMD codes, embeddings, rows and an index. No worker runs it yet."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from .base import ApiModel, Rule
from .common import SecretKeyRef, exactly_one, no_password


class SourceFormat(StrEnum):
    """How a file holds chunks."""

    REQUEST = "request"
    JSONL = "jsonl"


class SourceFiles(ApiModel):
    """Files of chunks, read in the order given."""

    uris: list[Annotated[str, Field(min_length=1)]] = Field(min_length=1, max_length=1000)
    format: SourceFormat = SourceFormat.REQUEST


class Source(ApiModel):
    """Where chunks come from."""

    files: SourceFiles


class TmdBackendKind(StrEnum):
    """Who gives domain, task and modifier."""

    OLLAMA = "ollama"
    EMBEDDED = "embedded"
    CLIENT = "client"


class Tmd(ApiModel):
    """TMD codes: domain, task, modifier."""

    backend: TmdBackendKind = TmdBackendKind.EMBEDDED
    url: str | None = Field(default=None, pattern=r"^https?://.+$")
    model: str | None = None
    timeout_seconds: int = Field(default=60, ge=1)
    retries: int = Field(default=3, ge=0, le=100)

    rules: ClassVar = (
        Rule(
            expression="self.backend != 'ollama' || (has(self.url) && has(self.model))",
            message="backend ollama needs url and model",
            field="url",
        ),
    )


class EmbeddingBackendKind(StrEnum):
    """Who computes vectors."""

    ONNX = "onnx"
    SENTENCE_TRANSFORMERS = "sentence-transformers"


class Embedding(ApiModel):
    """Sentence embeddings."""

    backend: EmbeddingBackendKind = EmbeddingBackendKind.ONNX
    model: str | None = None


class IngestStore(ApiModel):
    """Where rows go."""

    uri: str | None = Field(default=None, max_length=2048, pattern=r"^(sqlite:///.+|postgres(ql)?://.+)$")
    secret_ref: SecretKeyRef | None = None

    rules: ClassVar = (exactly_one("uri", "secretRef"), no_password("uri"))


class IndexKind(StrEnum):
    """Exact, or by inverted lists."""

    FLAT = "Flat"
    IVF = "IVF"


class Index(ApiModel):
    """The FAISS index."""

    kind: IndexKind = IndexKind.FLAT
