"""How each kind of work is dealt, counted and judged. The rest of the operator asks the policy, and never the kind."""

from __future__ import annotations

from shardwise_api.runs import IngestRun, Run

from .base import Ending, Policy, Share
from .blocks import BlocksPolicy, PluginPolicy
from .ingestion import IngestionPolicy
from .ranks import RanksPolicy
from .suite import SuitePolicy
from .sweep import SweepPolicy

__all__ = ["Ending", "Policy", "Share", "policy_of"]


def policy_of(run: Run) -> Policy:
    """Return the policy of a run."""
    if isinstance(run, IngestRun):
        return IngestionPolicy(run)
    engine = run.spec.engine
    if engine.scripts is not None:
        return SuitePolicy(run, engine.scripts)
    if engine.difflogic is not None:
        training, sweep = engine.difflogic, engine.difflogic.sweep
        return RanksPolicy(run, training) if sweep is None else SweepPolicy(run, training, sweep)
    if engine.plugin is not None:
        return PluginPolicy(run, engine.plugin)
    return BlocksPolicy(run, patterns=engine.kato)
