"""The server's settings: every variable that KATO documents has an effect here, and `GET /status` shows it.

In the original, three of these are read and used nowhere, so a typing error in a manifest went unnoticed for ever:
here a bad value ends the start.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from shardwise_jobs.services.settings import EnvironmentSettings

from .predictions import PREDICTION_SECONDS

EXTENSIONS = ("learn-marks", "guarded-learning", "compact-results", "learn-sequences", "list-patterns", "list-sessions")
"""What this server adds to the protocol; a client must ask `GET /status`, never guess."""


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


class Settings(EnvironmentSettings):
    """See `EnvironmentSettings`."""

    batch_size: int = Field(default=1000, ge=1, le=100_000, alias="KATO_BATCH_SIZE")
    """Operations in one bulk write to the store."""
    pool_size: int = Field(default=50, ge=1, le=100, alias="CONNECTION_POOL_SIZE")
    """Most connections to the store."""
    request_timeout: int = Field(default=120, ge=1, le=300, alias="REQUEST_TIMEOUT")
    """Seconds to wait for the store."""
    session_ttl: int = Field(default=3600, ge=60, le=86_400, alias="SESSION_TTL")
    """Seconds an unused session lives, unless its creator says otherwise."""
    session_auto_extend: bool = Field(default=True, alias="SESSION_AUTO_EXTEND")
    """Whether using a session starts its time anew."""
    max_sessions: int = Field(default=10_000, ge=1, le=1_000_000, alias="KATO_MAX_SESSIONS")
    """Sessions at once; beyond them idle ones are ended, and when all are in use, who comes is answered 503."""
    session_memory_mib: int = Field(default=256, ge=1, le=1 << 20, alias="KATO_SESSION_MEMORY_MIB")
    """MiB that all sessions together may hold, about; a quarter of it for one session."""
    prediction_seconds: int = Field(default=PREDICTION_SECONDS, ge=1, le=300, alias="KATO_PREDICTION_SECONDS")
    """Seconds of processor time that one prediction may take."""
    service_name: str = Field(default="kato", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,30}$", alias="SERVICE_NAME")
    """Ends each processor id, and so each database's name."""
    log_level: Annotated[Literal["CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG"], BeforeValidator(_upper)] = Field(
        default="INFO", alias="LOG_LEVEL"
    )
    extensions_switch: Literal["on", "off"] = Field(default="on", alias="KATO_EXTENSIONS")
    """`off` gives the plain protocol: extension fields are ignored like any unknown field."""

    @property
    def extensions(self) -> tuple[str, ...]:
        """Return the extensions that are switched on."""
        return EXTENSIONS if self.extensions_switch == "on" else ()
