"""The `engine.kato` block: a hierarchy of KATO nodes, what they learn from, and where the patterns go."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from .base import ApiModel, Rule
from .common import SecretKeyRef, exactly_one, no_password

MAX_NODES = 16
"""Levels of a hierarchy."""


class BuiltinTokenizer(StrEnum):
    """Tokenizers that need no file."""

    WORDS = "words"
    BYTES = "bytes"


class TextStructure(StrEnum):
    """What a text is taken for when it is cut into paragraphs."""

    SIMPLE = "Simple"
    ARTICLE = "Article"
    BOOK = "Book"


class TokenizerSpec(ApiModel):
    """Exactly one way to cut text into tokens."""

    builtin: BuiltinTokenizer | None = Field(
        default=None, description=r"`words` is the regular expression `\w+|[^\w\s]`, `bytes` is UTF-8 in hex."
    )
    file: str | None = Field(default=None, min_length=1, description="A `tokenizer.json` of the tokenizers library.")
    hub: str | None = Field(default=None, min_length=1, description="A name on the model hub, as `gpt2`.")

    rules: ClassVar = (exactly_one("builtin", "file", "hub"),)


class NodeMode(StrEnum):
    """How node0 cuts its tokens."""

    CHUNKING = "Chunking"
    SENTENCES = "Sentences"


class NodeSpec(ApiModel):
    """One level of the hierarchy."""

    name: Annotated[str, Field(pattern=r"^node(0|[1-9][0-9]?)$", max_length=6)] = Field(
        description="`node0`, `node1`, …: in order, lowest level first."
    )
    chunk_size: int = Field(default=15, ge=3, le=1000, description="Tokens (node0) or names (above) per pattern.")
    mode: NodeMode = Field(default=NodeMode.CHUNKING, description="`Sentences` is for node0 only.")
    min_sentence_tokens: int = Field(default=3, ge=2, le=1000, description="Shorter sentences are dropped.")


class Transport(StrEnum):
    """How patterns reach the store: written directly, or learned by a KATO server."""

    DIRECT = "Direct"
    REST = "Rest"


class KatoStore(ApiModel):
    """Where the patterns live: an embedded SQLite file or a MongoDB that KATO servers read."""

    uri: str | None = Field(
        default=None,
        max_length=2048,
        pattern=r"^(sqlite:///.+|mongodb(\+srv)?://.+)$",
        description="`sqlite:///file.db`, `mongodb://host:27017`. No password here: use secretRef.",
    )
    secret_ref: SecretKeyRef | None = Field(default=None, description="A Secret's key that holds the URI.")

    rules: ClassVar = (
        exactly_one("uri", "secretRef"),
        no_password("uri"),
    )


class KatoServer(ApiModel):
    """The KATO server of transport Rest, and how to talk to it."""

    url: str = Field(
        pattern=r"^https?://[^/\s]+.*$", description="Base URL, as `http://127.0.0.1:8000`. No password here."
    )
    node0_batch_size: int = Field(
        default=200,
        ge=1,
        le=1000,
        description="Patterns of one learning call. 50 is the original learner's choice; 200 takes fewer calls.",
    )
    request_timeout_seconds: int = Field(default=120, ge=1, le=300, description="Limit of one call.")
    connection_pool_size: int = Field(
        default=50, ge=1, le=100, description="Sessions open at once over all workers: parallelism x nodes at most."
    )
    session_ttl_seconds: int = Field(default=3600, ge=60, le=86400, alias="sessionTTLSeconds")


class FileFormat(StrEnum):
    """How a file holds samples."""

    JSONL = "jsonl"
    TEXT = "text"
    PARQUET = "parquet"


class FilesDataset(ApiModel):
    """Files as the input: read in the order given."""

    uris: list[Annotated[str, Field(min_length=1)]] = Field(
        min_length=1,
        max_length=1000,
        description="Paths, or URIs that fsspec opens; relative to the manifest.",
    )
    format: FileFormat = Field(default=FileFormat.JSONL, description="`text` has one sample per line.")
    column: str = Field(default="text", min_length=1, description="Where a record has its text.")


class HubDataset(ApiModel):
    """A dataset that the `datasets` library streams; a folder on disk works too."""

    path: str = Field(min_length=1, description="Hub path, folder, or a known key: c4, wikitext, pile, …")
    name: str | None = Field(default=None, description="Configuration of the dataset.")
    split: str = "train"
    column: str | None = Field(default=None, description="Absent: the known key's column, else `text`.")
    revision: str | None = Field(default=None, description="Commit or tag: without it the hub's newest is read.")


class DatasetSpec(ApiModel):
    """Exactly one source of samples."""

    files: FilesDataset | None = None
    hub: HubDataset | None = None
    max_samples: int | None = Field(
        default=None, ge=1, description="Stop after this many samples that are long enough; absent: all."
    )
    structure: TextStructure = Field(
        default=TextStructure.SIMPLE, description="`Article` and `Book` also cut at headings and chapters."
    )

    rules: ClassVar = (exactly_one("files", "hub"),)


class KatoEngine(ApiModel):
    """Hierarchical learning of patterns from text."""

    knowledge_base: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_-]{0,30}[A-Za-z0-9])?$")] = Field(
        description="Where the patterns are kept together: KATO node ids are `<knowledgeBase>_node0`, …"
    )
    nodes: list[NodeSpec] = Field(min_length=1, max_length=MAX_NODES)
    tokenizer: TokenizerSpec
    transport: Transport = Transport.DIRECT
    store: KatoStore | None = Field(default=None, description="Transport Direct: where workers write.")
    server: KatoServer | None = Field(default=None, description="Transport Rest: the server that learns.")
    dataset: DatasetSpec

    rules: ClassVar = (
        Rule(
            # The names are spelt out: an API server can't estimate the cost of 'node' + string(i).
            expression=f"{list(range(MAX_NODES))}.all(i, i >= self.nodes.size() || "
            f"self.nodes[i].name == {[f'node{i}' for i in range(MAX_NODES)]}[i])",
            message="nodes must be named node0, node1, … in this order",
            field="nodes",
        ),
        Rule(
            expression="self.nodes.all(n, n.mode == 'Chunking' || n.name == 'node0')",
            message="mode Sentences is for node0 only: the levels above have no sentences",
            field="nodes",
        ),
        Rule(
            expression="self.transport != 'Direct' || has(self.store)",
            message="transport Direct needs a store, as store: {uri: 'sqlite:///patterns.db'}",
            field="store",
        ),
        Rule(
            expression="self.transport != 'Rest' || has(self.server)",
            message="transport Rest needs a server, as server: {url: 'http://127.0.0.1:8000'}",
            field="server",
        ),
    )
