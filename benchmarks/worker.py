"""A worker held at a barrier: the product's own entry, but for a pause between its start-up and its work.

The rate of a variant is that of its work, so that a quarter of a second of work is not buried under the imports
before it. All else is as in a pod: environment, run document, logs, progress, exit code.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import sys
import time
from typing import Any

from shardwise_api.wire import ShardResult
from shardwise_jobs import __main__ as entry
from shardwise_jobs.engines.kato.engine import KatoEngine

READY = "ready"
GO = "go"


def main() -> int:
    """Run the worker's entry with the engine's work held back until standard input says go."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--import", dest="modules", action="append", default=[], help="what work would import itself")
    parser.add_argument("--count-calls", action="store_true", help="tell what transport Rest took")
    parser.add_argument(
        "--sequential", action="store_true", help="one plain call per pattern: what is measured against"
    )
    arguments = parser.parse_args()
    for module in arguments.modules:
        importlib.import_module(module)
    calls = _observed_transport(sequential=arguments.sequential) if arguments.count_calls else None
    work = KatoEngine.work

    def held(engine: KatoEngine, *, shard: int) -> ShardResult:
        _say(READY)
        if sys.stdin.readline().strip() != GO:
            raise SystemExit("the benchmark is gone")
        before = time.process_time()
        result = work(engine, shard=shard)
        told = {
            "done": result.items.done,
            "calls": calls or {},
            "cpu_seconds": time.process_time() - before,
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        _say(json.dumps(told))
        return result

    _replace(KatoEngine, "work", held)
    return entry.main()


def _observed_transport(*, sequential: bool) -> dict[str, int]:
    # Imported here: a worker of transport Direct does without, and its memory is measured.
    from shardwise_jobs.engines.kato import rest_backend
    from shardwise_jobs.engines.kato.rest import RestTransport

    calls: dict[str, int] = {}

    class Observed(RestTransport):
        """Tells at its end what it took; no manifest asks for `sequential`, so it is set here."""

        def __init__(self, **settings: Any) -> None:
            super().__init__(**{**settings, "sequential": sequential})

        def close(self) -> None:
            calls.update(self.statistics)
            super().close()

    _replace(rest_backend, "RestTransport", Observed)
    return calls


def _replace(owner: Any, name: str, replacement: object) -> None:
    setattr(owner, name, replacement)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
