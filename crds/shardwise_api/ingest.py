"""The blocks of an IngestRun: chunks, TMD codes, embeddings, rows and an index."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from .base import ApiModel, Rule
from .common import SecretKeyRef, exactly_one, no_password
from .uris import BY_VARIABLE


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


class Dedup(StrEnum):
    """When two chunks of a data set are one row."""

    POSITION = "position"
    CONTENT = "content"


class TmdBackendKind(StrEnum):
    """Who gives domain, task and modifier."""

    OLLAMA = "ollama"
    EMBEDDED = "embedded"
    CLIENT = "client"


class OnTmdFailure(StrEnum):
    """What becomes of a chunk without codes."""

    FAIL = "Fail"
    EMBEDDED = "Embedded"


class Tmd(ApiModel):
    """TMD codes: domain, task, modifier."""

    backend: TmdBackendKind = Field(
        default=TmdBackendKind.EMBEDDED,
        description="ollama: a language model behind an Ollama-compatible API; embedded: the labels nearest to the "
        "text in the embedding space, without a model of its own; client: every chunk brings its codes. Codes that a "
        "chunk brings are taken as they are by all three.",
    )
    url: str | None = Field(
        default=None,
        max_length=2048,
        pattern=r"^https?://.+$",
        description="Of the Ollama-compatible API. No password here.",
    )
    model: str | None = Field(default=None, min_length=1, description="The language model's name there.")
    timeout_seconds: int = Field(default=60, ge=1, le=3600, description="For one answer.")
    retries: int = Field(default=3, ge=0, le=100, description="Further tries of a question, for each cause.")
    on_tmd_failure: OnTmdFailure = Field(
        default=OnTmdFailure.FAIL,
        description="Of a chunk that the language model, asked and asked again, gives no codes. Fail: it is a failed "
        "item; Embedded: it gets those of backend embedded, and its row says so. A server that can't be reached is "
        "neither's reason: the shard is tried again.",
    )

    rules: ClassVar = (
        Rule(
            expression="self.backend != 'ollama' || (has(self.url) && has(self.model))",
            message="backend ollama needs url and model",
            field="url",
        ),
        Rule(
            expression="self.backend == 'ollama' || (!has(self.url) && !has(self.model))",
            message="url and model are of backend ollama; this one asks no server",
            field="backend",
        ),
        Rule(
            expression="self.backend == 'ollama' || self.onTmdFailure == 'Fail'",
            message="Embedded is of backend ollama; backend embedded itself takes the codes that chunks bring, and "
            "gives the others theirs",
            field="onTmdFailure",
        ),
        replace(
            no_password("url"),
            message=f"a password or key {BY_VARIABLE}",
        ),
    )


class EmbeddingBackendKind(StrEnum):
    """Who computes vectors."""

    ONNX = "onnx"
    SENTENCE_TRANSFORMERS = "sentence-transformers"


class Embedding(ApiModel):
    """Sentence embeddings."""

    backend: EmbeddingBackendKind = Field(
        default=EmbeddingBackendKind.ONNX,
        description="onnx: all-MiniLM-L6-v2 (384 numbers) without torch; sentence-transformers: any model of that "
        "library.",
    )
    model: str | None = Field(
        default=None,
        min_length=1,
        description="Of sentence-transformers: a name, or a folder as an absolute path or beginning with ./ or ../",
    )

    rules: ClassVar = (
        Rule(
            expression="has(self.model) == (self.backend == 'sentence-transformers')",
            message="backend sentence-transformers needs a model, and onnx has one of its own",
            field="model",
        ),
    )


class IngestStore(ApiModel):
    """Where rows go."""

    uri: str | None = Field(
        default=None,
        max_length=2048,
        pattern=r"^(sqlite:///.+|postgres(ql)?://.+)$",
        description="`sqlite:///file.db` or `postgresql://user@host/database`.",
    )
    secret_ref: SecretKeyRef | None = Field(default=None, description="The URI, where it has a password.")
    pool_size: int = Field(
        default=2,
        ge=1,
        le=100,
        description="The most connections to PostgreSQL that a process may hold; a worker looks up and writes on one, "
        "so more make it no faster. Times sharding.parallelism they must stay below the server's max_connections.",
    )

    rules: ClassVar = (exactly_one("uri", "secretRef"), no_password("uri"))


class IndexKind(StrEnum):
    """Exact, or by inverted lists."""

    FLAT = "Flat"
    IVF = "IVF"


class Index(ApiModel):
    """The FAISS index."""

    kind: IndexKind = Field(
        default=IndexKind.FLAT,
        description="Flat: exact; IVF: by inverted lists, for millions: a search with codes looks into some of them "
        "and is fast, one by the text alone looks into all and is exact.",
    )
    tmd_weight: float = Field(
        default=1.0,
        ge=0.0,
        le=100.0,
        description="How much the codes' 16 numbers count in the index beside a text's vector of length 1.",
    )
