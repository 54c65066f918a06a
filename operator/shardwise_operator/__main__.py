"""`python -m shardwise_operator`: what the operator's image runs."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys

from shardwise_api.http_guard import LogThrottle

from .shell.api import Api, ApiError
from .shell.app import OperatorApp
from .shell.settings import MissingSetting, Settings, settings_from

RETRY_SECONDS = 2.0
_HELP = """\
environment (the chart sets all of them):
  SHARDWISE_WORKER_IMAGE        image of worker pods; required
  SHARDWISE_IMAGE_PULL_POLICY   its pull policy (IfNotPresent)
  SHARDWISE_IMAGE_PULL_SECRETS  names of pull Secrets in the runs' namespaces, comma separated
  SHARDWISE_PROGRESS_URL        where workers report, as http://NAME.NAMESPACE.svc:8090/v1/progress
  SHARDWISE_NAMESPACE           own namespace: the Lease is there
  SHARDWISE_WATCH_NAMESPACES    namespaces to look after, comma separated; empty: all
  SHARDWISE_URI_SCHEMES         schemes of inputs and outputs beside the usual ones, comma separated
  SHARDWISE_LEASE               name of the Lease (shardwise-operator)
  SHARDWISE_LISTEN              address to listen on (all)
  SHARDWISE_HTTP_CONNECTIONS    connections of each server (512), _CONNECTIONS_PER_PEER (128) and the other limits
                                of shardwise_api.http_guard; SHARDWISE_HTTP_HOSTS: names in Host that are answered
  POD_NAME, POD_IP              this replica
  SHARDWISE_LOG_LEVEL           DEBUG, INFO, WARNING (INFO)
It answers /healthz, /readyz and /metrics on port 8080, and takes progress reports on port 8090.
"""

log = logging.getLogger("shardwise_operator")


def main() -> int:
    """Run the operator until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="python -m shardwise_operator",
        description="Looks after TrainingRuns and IngestRuns of a cluster.",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    try:
        settings = settings_from(os.environ)
    except MissingSetting as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    logging.basicConfig(
        level=settings.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # A line per call, or per event of any pod, would hide what a person looks for.
    for noisy in ("httpx", "httpcore", "kopf", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It is anybody in the cluster who sends what this server can't read.
    logging.getLogger("aiohttp.server").addFilter(LogThrottle())
    try:
        asyncio.run(_run(settings))
    except RuntimeError as error:
        log.critical("%s", error, exc_info=error.__cause__)
        return 1
    return 0


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    api = await _connected(stop)
    if api is not None:
        await OperatorApp(api=api, settings=settings).run(stop)


async def _connected(stop: asyncio.Event) -> Api | None:
    while not stop.is_set():
        try:
            return await Api.connect()
        except ApiError as error:
            log.warning("no API server yet: %s", error)
            await asyncio.sleep(RETRY_SECONDS)
    return None


if __name__ == "__main__":
    sys.exit(main())
