"""`python -m shardwise_jobs.services.ingest`: `shardwise ingest serve` where the client isn't installed."""

from .cli import serve

serve(prog_name="shardwise ingest serve")
