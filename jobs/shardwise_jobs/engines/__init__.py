"""One package per engine; each is found through the entry point group `shardwise.engines`."""
