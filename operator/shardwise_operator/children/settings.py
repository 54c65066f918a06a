"""What the cluster's administrator decides about workers, as the chart hands it to the operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSettings:
    """Defaults of worker pods."""

    worker_image: str
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    progress_url: str | None = None
    """Where workers report; None: nobody listens."""
    uri_schemes: str = ""
    """Schemes of inputs and outputs beside the usual ones, with commas between."""
    egress: tuple[dict[str, Any], ...] | None = None
    """Where workers may go, as a NetworkPolicy's rules; None: only the namespace's own policies say."""
