"""The service's settings: every variable of the original has an effect, ends the start, or is said to have none.

What the original would do and this service does not (rules by keywords, an LLM for the domain alone, CPESH, mocks)
can't be asked for: nobody should find out from the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, LiteralString
from urllib.parse import quote, urlencode

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_core import PydanticCustomError

from shardwise.engine.errors import BadConfiguration
from shardwise_api.ingest import TmdBackendKind
from shardwise_api.wire import Environment
from shardwise_jobs.services.settings import EnvironmentSettings

DEFAULT_STORE = "sqlite:///chunks.db"
DEFAULT_ENDPOINT = "http://localhost:11434"
DEFAULT_MODEL = "tinyllama:1.1b"

_NO_EFFECT = {
    "LNSP_TMD_FAST_CONF_MIN": "there are no rules by keywords, every chunk is asked for",
    "LNSP_CPESH_TIMEOUT_S": "there is no CPESH extraction",
    "FAISS_NPROBE": "the service searches nothing; `shardwise ingest index` takes it",
    **dict.fromkeys(
        ("OLLAMA_NUM_PARALLEL", "OLLAMA_MAX_LOADED_MODELS", "OLLAMA_MAX_QUEUE", "OLLAMA_KEEP_ALIVE"),
        "it is the LLM server's own, to be set where that runs",
    ),
}


def _is_true(value: object) -> object:
    # The original's rule: one word is on, whatever else is off.
    return value.lower() == "true" if isinstance(value, str) else value


def _positive(workers: int) -> int:
    if workers < 1:
        raise PydanticCustomError("workers", "max_workers must be greater than 0")
    return workers


def _only(*offered: object, why: LiteralString) -> AfterValidator:
    def check(value: object) -> object:
        if value not in offered:
            raise PydanticCustomError("not_offered", why)
        return value

    return AfterValidator(check)


Switch = Annotated[bool, BeforeValidator(_is_true)]


class Settings(EnvironmentSettings):
    """See `EnvironmentSettings`; fields without an alias are set on the command line alone."""

    parallel: Switch = Field(default=True, alias="LNSP_ENABLE_PARALLEL")
    """Off: the LLM is asked one question at a time."""
    max_workers: Annotated[int, AfterValidator(_positive)] = Field(default=10, alias="LNSP_MAX_PARALLEL_WORKERS")
    """Questions to the LLM at once, of all requests together."""
    batch_embeddings: Switch = Field(default=True, alias="LNSP_ENABLE_BATCH_EMBEDDINGS")
    """Off: one call of the embedder per chunk. The vectors are the same."""
    endpoint: str | None = Field(default=None, alias="LNSP_LLM_ENDPOINT")
    tmd_model: str | None = Field(default=None, alias="LNSP_TMD_LLM_MODEL")
    llm_model: str | None = Field(default=None, alias="LNSP_LLM_MODEL")
    mode: Annotated[str, _only("full", why="only full is offered: the LLM gives all three codes")] = Field(
        default="full", alias="LNSP_TMD_MODE"
    )
    fast_first: Annotated[
        Switch, _only(False, why="rules by keywords are not offered; set it to false, or leave it out")
    ] = Field(default=False, alias="LNSP_TMD_FAST_FIRST")
    cpesh: Annotated[Switch, _only(False, why="CPESH is not offered; set it to false, or leave it out")] = Field(
        default=False, alias="LNSP_ENABLE_CPESH"
    )
    provider: Annotated[str, _only("", "local_llama", why="the only provider is local_llama")] = Field(
        default="", alias="LNSP_LLM_PROVIDER"
    )
    allow_mock: Annotated[str, _only("0", why="there are no mock answers; set it to 0, or leave it out")] = Field(
        default="0", alias="LNSP_ALLOW_MOCK"
    )
    dsn: SecretStr | None = Field(default=None, alias="PG_DSN")
    store: SecretStr | None = Field(default=None, alias=Environment.STORE_URI)
    tmd: TmdBackendKind | None = None
    timeout_seconds: float = Field(default=60, gt=0, le=3600)
    retries: int = Field(default=3, ge=0, le=100)
    embedding_model: str | None = None

    @property
    def backend(self) -> TmdBackendKind:
        """Who gives codes: an LLM when anything names one, else the embedding space, which needs no server."""
        if self.tmd is not None:
            return self.tmd
        named = self.endpoint or self.tmd_model or self.llm_model or self.provider
        return TmdBackendKind.OLLAMA if named else TmdBackendKind.EMBEDDED

    @property
    def model(self) -> str:
        """The LLM's name."""
        return self.tmd_model or self.llm_model or DEFAULT_MODEL

    @property
    def workers(self) -> int:
        """Questions to the LLM at once."""
        return self.max_workers if self.parallel else 1

    @property
    def store_uri(self) -> str:
        """Where rows go; may hold a password.

        Raises:
            BadConfiguration: PG_DSN is none.
        """
        if self.store is not None:
            return self.store.get_secret_value()
        return DEFAULT_STORE if self.dsn is None else _uri_of(self.dsn.get_secret_value())

    def shown(self) -> dict[str, object]:
        """Return how the service works, by environment variable."""
        return self.model_dump(by_alias=True, include={"parallel", "max_workers", "batch_embeddings"})


def without_effect(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each variable that is set, looks like one of the service's and does nothing."""
    known = {field.alias for field in Settings.model_fields.values()}
    for name in sorted({name for name, value in environment.items() if value} - known):
        if name in _NO_EFFECT:
            yield f"{name} has no effect: {_NO_EFFECT[name]}"
        elif name.startswith("LNSP_"):
            yield f"{name} has no effect: this service has no such variable"


def _uri_of(dsn: str) -> str:
    """Return a libpq connection string, in either form, as the URI that a store is named by."""
    if dsn.startswith(("postgresql://", "postgres://")):
        return dsn
    try:
        import psycopg2
        from psycopg2.extensions import parse_dsn
    except ImportError as error:
        raise BadConfiguration("PG_DSN needs the extra: pip install 'shardwise[ingest]'") from error
    try:
        return f"postgresql:///?{urlencode(parse_dsn(dsn), quote_via=quote)}"
    except psycopg2.ProgrammingError:
        # Without the driver's text: it may quote the password.
        raise BadConfiguration(
            "PG_DSN: not a connection string as host=localhost port=5432 dbname=lnsp user=lnsp password=…"
        ) from None
