"""`python -m shardwise_jobs.engines.kato.server`: what the container image runs, without the rest of the client."""

from __future__ import annotations

import argparse
import os
import sys

from shardwise_jobs.errors import WorkError

from .run import serve
from .settings import Settings


def main() -> int:
    """Parse the command line, serve until told to stop, and return the exit code."""
    parser = argparse.ArgumentParser(prog="shardwise kato serve", description="Serve the KATO protocol over a store.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 picks a free one; it is printed (default 8000)")
    parser.add_argument("--store", default="sqlite:///patterns.db", metavar="URI")
    arguments = parser.parse_args()
    try:
        serve(
            host=arguments.host,
            port=arguments.port,
            store_uri=arguments.store,
            settings=Settings.from_environment(os.environ),
        )
    except WorkError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
