"""From settings to a listening process."""

from __future__ import annotations

import os

from shardwise_jobs.http_server import run

from .app import create_app
from .gateway import StoreGateway
from .service import SessionService
from .settings import Settings


def serve(*, host: str, port: int, store_uri: str, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; see `shardwise_jobs.http_server.run.serve`."""
    run.log_to_stderr(settings.log_level)
    limits = run.limits_from(os.environ)
    service = SessionService(gateway=StoreGateway(uri=store_uri, settings=settings), settings=settings)
    app = create_app(service, threads=limits.requests)
    run.serve(app, host=host, port=port, limits=limits, access_log=settings.log_level == "DEBUG")
