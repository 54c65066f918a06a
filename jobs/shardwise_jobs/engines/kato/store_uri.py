"""The URI of the store that a manifest names: for the workers that write it, and to list what a server wrote."""

from __future__ import annotations

import os

from shardwise.engine.errors import BadConfiguration
from shardwise_api.kato import KatoEngine as KatoSpec
from shardwise_api.wire import Environment


def store_uri(kato: KatoSpec) -> str:
    """Return the URI of the manifest's store, from the environment when the manifest names a Secret.

    Raises:
        BadConfiguration: a Secret is named and the variable is not set.
    """
    assert kato.store is not None
    uri = kato.store.uri or os.environ.get(Environment.STORE_URI)
    if not uri:
        raise BadConfiguration(
            f"spec.engine.kato.store.secretRef: there are no Secrets here; set {Environment.STORE_URI} to the URI"
        )
    return uri
