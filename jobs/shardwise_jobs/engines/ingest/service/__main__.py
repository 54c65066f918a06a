"""`python -m shardwise_jobs.engines.ingest.service`: `shardwise ingest serve` where the client isn't installed."""

from ..cli import serve

serve(prog_name="shardwise ingest serve")
