"""The ways to learn the same samples, each with a store of its own, and a server of its own where it needs one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import mongo_server
from tests.support.kato_server import kato_server

_ENGINE = "shardwise_jobs.engines.kato"
# The first connection imports the last two.
_REST_MODULES = (f"{_ENGINE}.rest_backend", "httpcore", "encodings.idna")

NotHere = mongo_server.ServerMissing
"""This machine lacks what a variant needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way of learning."""

    name: str
    workers: int
    rest: bool = False
    """Through our KATO server; else the workers write the store themselves."""
    sequential: bool = False
    """One plain call per pattern, as the original does it."""
    batch_size: int = 200
    """Patterns of one call to the server; 200 is the manifest's default, 50 the original learner's choice."""
    mongo: bool = False
    """On the MongoDB-wire test server; else on SQLite."""

    @property
    def worker_options(self) -> list[str]:
        """Arguments of `benchmarks.worker`."""
        if not self.rest:
            return ["--import", f"{_ENGINE}.stores.{'mongo' if self.mongo else 'sqlite'}"]
        imports = [option for module in _REST_MODULES for option in ("--import", module)]
        return [*imports, "--count-calls", *(["--sequential"] if self.sequential else [])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """Where a variant's patterns go."""

    store_uri: str
    server_url: str | None = None


BASELINE = Variant(name="rest-sequential", workers=1, rest=True, sequential=True)
DEFAULT = Variant(name="direct-sqlite-1", workers=1)
VARIANTS = (
    BASELINE,
    Variant(name="rest-batched", workers=1, rest=True),
    Variant(name="rest-batched-4", workers=4, rest=True),
    Variant(name="rest-batched-4-by-50", workers=4, rest=True, batch_size=50),
    DEFAULT,
    Variant(name="direct-sqlite-4", workers=4),
    Variant(name="direct-mongo-1", workers=1, mongo=True),
    Variant(name="direct-mongo-4", workers=4, mongo=True),
)


@contextmanager
def backend(variant: Variant, folder: Path) -> Iterator[Backend]:
    """Start what a variant needs in an empty folder, and stop it again.

    Raises:
        NotHere: it can't be had on this machine.
    """
    if variant.mongo:
        # Asked first: the test server would install them, and a measurement changes nothing on its machine.
        if lacking := [tool for tool in ("java", "javac", "mvn") if shutil.which(tool) is None]:
            raise NotHere(f"{', '.join(lacking)} not found; {mongo_server.HOW_TO_GET}")
        with mongo_server.running(folder / "mongo") as uri:
            yield Backend(store_uri=uri)
        return
    store_uri = f"sqlite:///{folder / 'patterns.db'}"
    if not variant.rest:
        yield Backend(store_uri=store_uri)
        return
    with kato_server(store_uri=store_uri) as server:
        yield Backend(store_uri=store_uri, server_url=server.url)
