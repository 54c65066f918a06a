"""Request bodies: what the protocol accepts, and refuses with 422, before anything is done.

Observations are typed dictionaries, not models: a call may bring thousands, and this parses eight times faster.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

MAX_TTL_SECONDS = 366 * 86_400

Ttl = Annotated[int, Field(ge=0, le=MAX_TTL_SECONDS)]
Emotive = Annotated[float, Field(allow_inf_nan=False)]


def _without_vectors(vectors: list[Any]) -> list[Any]:
    if vectors:
        raise PydanticCustomError("vectors_unsupported", "This server learns symbols only: vectors must be empty")
    return vectors


class Observed(TypedDict, total=False):
    """One event, and what is felt and known about it."""

    strings: list[str]
    vectors: Annotated[list[Any], AfterValidator(_without_vectors)]
    emotives: dict[str, Emotive]
    metadata: dict[str, JsonValue]


class PlainObservation(Observed, total=False):
    """One of a sequence in the plain protocol, where a mark is an unknown field like any other."""

    unique_id: str | None
    learn: Any


class Observation(Observed, total=False):
    """One of a sequence with our extensions: `learn` marks where to learn."""

    unique_id: str | None
    learn: bool


class SessionConfig(BaseModel):
    """What a session, or a node's genes, may set; None is unset. Unknown keys are ignored, bad values refused."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    max_pattern_length: Annotated[int, Field(ge=0, lt=2**31, strict=True)] | None = None
    stm_mode: JsonValue = None
    """Anything but ROLLING counts as CLEAR."""
    process_predictions: Annotated[bool, Field(strict=True)] | None = None
    recall_threshold: Annotated[float, Field(ge=0, le=1, strict=True)] | None = None
    max_predictions: Annotated[int, Field(ge=1, le=10_000, strict=True)] | None = None
    persistence: Annotated[int, Field(ge=1, le=100, strict=True)] | None = None
    sort_symbols: Annotated[bool, Field(strict=True)] | None = None
    """No effect, as in the original: events are sorted whatever it says."""
    indexer_type: Literal["VI", "LSH", "ANNOY", "FAISS"] | None = None

    def updated(self, change: SessionConfig) -> SessionConfig:
        """Return this configuration with the keys that `change` names."""
        return self.model_copy(update={key: getattr(change, key) for key in change.model_fields_set})

    def over(self, base: SessionConfig) -> SessionConfig:
        """Return `base` with the keys that are set here."""
        return base.model_copy(update={key: value for key, value in self if value is not None})

    def shown(self) -> dict[str, object]:
        """Return the keys that were set, as a session object shows them: never `stm_mode`."""
        return self.model_dump(exclude_none=True, exclude={"stm_mode"})


DEFAULTS = SessionConfig(
    max_pattern_length=0,
    stm_mode="CLEAR",
    process_predictions=True,
    recall_threshold=0.1,
    max_predictions=100,
    persistence=5,
    sort_symbols=True,
    indexer_type="VI",
)


class NewSession(BaseModel):
    """Body of `POST /sessions`."""

    node_id: str = Field(min_length=1)
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    ttl_seconds: Ttl | None = None
    config: SessionConfig | None = None


class SequenceGuard(BaseModel):
    """Which step of which shard a sequence is, so that its repeat changes nothing."""

    run: str = Field(min_length=1)
    shard: int = Field(ge=0, lt=2**31)
    position: int = Field(ge=0, lt=2**53)
    """As every JSON reader takes it, and every store."""


class SequenceFlags(BaseModel):
    """When a sequence learns, and whether its observations are kept apart."""

    learn_after_each: bool = False
    learn_at_end: bool = False
    clear_stm_between: bool = False


class PlainSequence(SequenceFlags):
    """Body of `POST /sessions/{id}/observe-sequence` in the plain protocol."""

    observations: list[PlainObservation]


class ExtendedSequence(SequenceFlags):
    """The same with our extensions."""

    observations: list[Observation]
    guard: SequenceGuard | None = None
    compact: bool = False


class SequenceBatch(BaseModel):
    """Body of `POST /sessions/{id}/learn-sequences`: patterns of one-symbol events, each to be learned whole."""

    sequences: list[list[str]]
    guard: SequenceGuard | None = None


class Genes(BaseModel):
    """Body of `POST /genes/update`."""

    genes: dict[str, JsonValue]
