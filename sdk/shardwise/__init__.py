"""Shardwise for Python: what people import. Nothing is loaded before it is asked for.

`shardwise.engine` is what an engine is written with, `shardwise.testing` what it is tested with.
"""
