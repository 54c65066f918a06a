"""Run the server: `python -m tests.support.ollama --port 11434`. Its first line says where it listens."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal

from aiohttp import web

from .server import Ollama, Settings


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 for a free one")
    parser.add_argument("--model", action="append", help="a model it has (default tinyllama:1.1b); may be repeated")
    parser.add_argument("--latency-ms", type=float, default=887, help="time of an answer")
    parser.add_argument("--load-ms", type=float, default=0, help="time to load a model")
    parser.add_argument("--parallel", type=int, default=int(os.environ.get("OLLAMA_NUM_PARALLEL", "1")))
    parser.add_argument("--max-queue", type=int, default=int(os.environ.get("OLLAMA_MAX_QUEUE", "512")))
    asyncio.run(_serve(parser.parse_args()))


async def _serve(arguments: argparse.Namespace) -> None:
    server = Ollama(
        models=arguments.model or ["tinyllama:1.1b"],
        parallel=arguments.parallel,
        max_queue=arguments.max_queue,
        settings=Settings(latency_ms=arguments.latency_ms, load_ms=arguments.load_ms),
    )
    # A client that leaves ends its call, as there: else its slot would stay taken.
    runner = web.AppRunner(server.application(), handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, arguments.host, arguments.port, backlog=1024)
    await site.start()
    host, port = runner.addresses[0][:2]
    print(f"listening on http://{host}:{port}", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    main()
