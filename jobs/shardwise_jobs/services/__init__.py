"""What answers over HTTP for longer than a run: the KATO session server and the ingestion service.

They stand on the engines, which know nothing of them. Here is what both have in common: how a server listens and ends,
reads JSON, takes settings, guards itself and reaches its store.
"""
