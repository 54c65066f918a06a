"""The `shardwise` command: the local runner and the client of a cluster."""
