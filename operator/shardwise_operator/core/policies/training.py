"""What ranks of one training and seeds of many have in common for a person: steps, and what is learned."""

from __future__ import annotations

from shardwise_api.difflogic import DifflogicEngine
from shardwise_api.runs import Run
from shardwise_api.status import RunStatus
from shardwise_api.wire import PrepareResult

from .base import Policy


class TrainingPolicy(Policy):
    """See `Policy`."""

    deals_items = False
    shows_metrics = True
    items = "steps"
    progress_unit = "steps"

    def __init__(self, run: Run, training: DifflogicEngine) -> None:
        super().__init__(run)
        self._training = training

    @property
    def finishing(self) -> str:
        """See `Policy.finishing`."""
        return "finishing the current step"

    def identity(self, prepared: PrepareResult) -> dict[str, object]:
        """See `Policy.identity`: a training is cut into steps, whoever does them."""
        return {}

    def plan_rows(self) -> list[tuple[str, str]]:
        """See `Policy.plan_rows`."""
        training = self._training
        return [
            ("batch", f"{training.samples} samples, {training.steps:,} steps at most"),
            ("shards", self._workers_in_words()),
        ]

    def _workers_in_words(self) -> str:
        raise NotImplementedError

    def result_rows(self, status: RunStatus) -> list[tuple[str, str]]:
        """See `Policy.result_rows`."""
        items = status.items
        return [("steps", f"{items.done:,}" if items.total is None else f"{items.done:,} of {items.total:,}")]
