"""`GET /health`: always 200 and always soon, however the store does; what is wrong is named in `issues`."""

from __future__ import annotations

from datetime import UTC, datetime

from shardwise.engine.errors import WorkError
from shardwise_jobs.http_server.probe import PROBE_SECONDS

from .service import Answer, SessionService


async def health(service: SessionService) -> Answer:
    """Probe the store and tell.

    `unhealthy`: the store can't be read. `degraded`: it is slow to answer, or can be read but the last call failed.
    """
    status, issues = await _store_health(service)
    now = datetime.now(UTC).isoformat()
    return {
        "status": status,
        "processor_status": "healthy" if status == "healthy" else "degraded",
        "service_name": service.settings.service_name,
        "uptime_seconds": service.uptime(),
        "issues": issues,
        "metrics_collected": service.requests,
        "last_collection": now,
        "active_sessions": service.sessions.count(),
        "timestamp": now,
    }


async def _store_health(service: SessionService) -> tuple[str, list[str]]:
    try:
        await service.gateway.probe.answered()
    except TimeoutError:
        return "degraded", [f"the store has not answered for {PROBE_SECONDS:g} s"]
    except WorkError as error:
        return "unhealthy", [f"the store can't be read: {error}"]
    if service.gateway.failure is not None:
        return "degraded", [f"the last call of the store failed: {service.gateway.failure}"]
    return "healthy", []
