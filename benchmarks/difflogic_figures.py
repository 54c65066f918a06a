"""By how much a training step of ours differs from a peer's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .figures import Json


def differences(ours: Mapping[str, NDArray[Any]], peers: Mapping[str, NDArray[Any]]) -> Json:
    """Return by how much gradients and losses differ, relative to the largest of the peer's."""
    largest = float(np.abs(peers["gradient"]).max())
    losses = np.abs(ours["losses"] - peers["losses"]) / np.maximum(np.abs(peers["losses"]), 1.0)
    return {
        "gradient": float(np.abs(ours["gradient"] - peers["gradient"]).max() / largest),
        "losses": float(losses.max()),
    }
