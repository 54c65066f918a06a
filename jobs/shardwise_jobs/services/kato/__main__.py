"""`python -m shardwise_jobs.services.kato`: `shardwise kato serve` where the client isn't installed."""

from .cli import serve

serve(prog_name="shardwise kato serve")
