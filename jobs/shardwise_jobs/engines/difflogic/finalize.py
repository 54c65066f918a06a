"""The end of a training: which circuit is it, how good, and where are its pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from shardwise.engine.errors import BadConfiguration, BadInput, WorkError
from shardwise.engine.worker import Context
from shardwise_api.difflogic import DifflogicEngine
from shardwise_api.wire import MAX_METRICS, ItemCounts, Metric, RunResult

from .artifacts.publish import publish
from .experiments.evaluate import evaluate
from .model.gates import hardest
from .training.checkpoint import Checkpoint, Verdict, digest_of
from .training.runs import RunTraining

SUMMARY_FILE = "summary.json"
SUMMARY_BYTES = 2000
"""Of what a status shows, so that it fits a termination message together with the metrics."""
MAX_WARNINGS = 10


class NoSeedConverged(BadConfiguration):
    """A sweep's seeds were all trained to their ends, and none is without error: exit 2, it would be so again."""

    reason = "NoSeedConverged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A part and what it came to."""

    part: RunTraining
    last: Checkpoint
    verdict: Verdict

    @property
    def merit(self) -> tuple[bool, float, int]:
        """The least is the best: one without error, in the fewest steps; else the fewest errors."""
        return (not self.verdict.solved, self.verdict.wrong / max(1, self.verdict.total), self.last.state.step)


def finalize(*, context: Context, difflogic: DifflogicEngine, parts: list[RunTraining]) -> RunResult:
    """Publish the run's circuit, of a sweep the best one, and return its result. Safe to repeat.

    Raises:
        BadInput: there is no checkpoint.
        WorkError: the training is not at its end.
        NoSeedConverged: a sweep found no circuit without error; its best one is published.
    """
    sweep = difflogic.sweep
    found = [trained for part in parts if (trained := _trained(part)) is not None]
    if not found:
        where = parts[0].checkpoint_uri if sweep is None else context.output.uri_of("seed-*/checkpoint.npz")
        raise BadInput(f"{where}: there is no checkpoint: the work step has left nothing, or it was removed")
    if sweep is None and not parts[0].complete(found[0].last):
        raise WorkError(
            f"{parts[0].checkpoint_uri}: at step {found[0].last.state.step} of {difflogic.steps}: the work step has to "
            "run again"
        )
    # A seed that was stopped somewhere on its way was not judged there: which one is best must not depend on where.
    finished = [trained for trained in found if trained.part.complete(trained.last)]
    # Of equals min takes the first, which is the order of the seeds.
    best = min(finished or found, key=lambda trained: trained.merit)
    result = _published(context, difflogic, best=best, found=found)
    if sweep is not None and not best.verdict.solved:
        verdict = best.verdict
        raise NoSeedConverged(
            f"none of {len(finished)} seeds that were trained to their end reached hard error 0 within "
            f"{difflogic.steps} steps; the best, seed "
            f"{best.part.training.experiment.seed}, has {verdict.wrong} of {verdict.total} {verdict.unit} wrong "
            f"({result.uri}): try other seeds, or more steps"
        )
    return result


def _trained(part: RunTraining) -> Trained | None:
    last = part.read()
    if last is None:
        return None
    found = evaluate(
        experiment=part.training.experiment, automaton=part.training.automaton, functions=hardest(last.state.logits)
    )
    verdict = Verdict(step=last.state.step, wrong=found.wrong, total=found.total, unit=found.unit)
    return Trained(part=part, last=last, verdict=verdict)


def _published(context: Context, difflogic: DifflogicEngine, *, best: Trained, found: list[Trained]) -> RunResult:
    state, verdict, training = best.last.state, best.verdict, best.part.training
    published = publish(
        output=context.output,
        experiment=training.experiment,
        automaton=training.automaton,
        state=state,
        history=best.last.history,
    )
    metrics = {**_losses(best.last), "wrong": verdict.wrong, **published.figures}
    short: dict[str, Any] = {
        "solved": verdict.solved,
        "steps": state.step,
        "wrong": verdict.wrong,
        "total": verdict.total,
        "unit": verdict.unit,
        "seed": training.experiment.seed,
        **{name: published.figures[name] for name in ("activeGates", "prunedGates")},
    }
    if difflogic.sweep is not None:
        short |= {"seedsTried": len(found), "seedsSolved": sum(trained.verdict.solved for trained in found)}
    digest = f"sha256:{digest_of(logits=state.logits, step=state.step)}"
    summary = {
        "run": context.document.name,
        "uid": context.document.uid,
        "digest": digest,
        **short,
        **_times(context),
        "metrics": metrics,
        "trials": [f"{trial}" for trial in published.trials],
        "seeds": [_line(trained) for trained in found],
        "files": {**published.uris, "checkpoint": best.part.checkpoint_uri},
        "experiment": training.document,
        "warnings": published.warnings,
    }
    uri = context.output.write_text(SUMMARY_FILE, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    return RunResult(
        digest=digest,
        uri=uri,
        items=_items(difflogic, found),
        metrics=[Metric(name=name, value=value) for name, value in metrics.items()][:MAX_METRICS],
        summary=_within(short, published.uris),
        warnings=published.warnings[:MAX_WARNINGS],
    )


def _line(trained: Trained) -> dict[str, Any]:
    return {
        "seed": trained.part.training.experiment.seed,
        "steps": trained.last.state.step,
        "wrong": trained.verdict.wrong,
        "finished": trained.part.complete(trained.last),
        "digest": f"sha256:{digest_of(logits=trained.last.state.logits, step=trained.last.state.step)}",
    }


def _times(context: Context) -> dict[str, Any]:
    """Return how long the work took; the runner alone knows, and tells once."""
    worked = context.document.worked
    if worked is not None:
        return {"total_time_seconds": round(worked.seconds, 3), "num_workers": worked.workers}
    text = context.output.read_text(SUMMARY_FILE)
    before: dict[str, Any] = json.loads(text) if text else {}
    if before.get("uid") != context.document.uid:
        return {}
    return {name: before[name] for name in ("total_time_seconds", "num_workers") if name in before}


def _within(short: dict[str, Any], uris: dict[str, str]) -> dict[str, Any]:
    """Return what a status shows: the files too, while they leave room for the rest in a termination message."""
    shown = dict(short)
    for name, uri in uris.items():
        if len(json.dumps({**shown, name: uri}).encode()) > SUMMARY_BYTES:
            break
        shown[name] = uri
    return shown


def _losses(last: Checkpoint) -> dict[str, float]:
    if not len(last.history):
        return {"step": last.state.step}
    _, soft, hard, accuracy = last.history[-1].tolist()
    return {"step": last.state.step, "softLoss": soft, "hardLoss": hard, "hardAccuracy": accuracy}


def _items(difflogic: DifflogicEngine, found: list[Trained]) -> ItemCounts:
    """Return the steps that were done; those that were not needed count as skipped."""
    total = difflogic.steps * (len(difflogic.sweep.seeds) if difflogic.sweep else 1)
    done = sum(trained.last.state.step for trained in found)
    return ItemCounts(done=done, skipped=total - done)
