"""`shardwise render`: every child that the operator would make for a manifest, without a cluster."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from shardwise_api.manifest import InvalidManifest, load_manifest
from shardwise_api.runs import Run
from shardwise_api.terminal import echo
from shardwise_api.wire import Step
from shardwise_operator.core.actions import EnsureJob
from shardwise_operator.core.observed import JobState, JobView, Observed
from shardwise_operator.core.plan import plan
from shardwise_operator.core.policies import policy_of

from ..cluster.cluster_checks import relative_paths, warnings
from .common import EXIT_INVALID, fail

EPILOG = """
Placeholders stand for what only a cluster knows: the run's uid, and in the documents of the steps work and finalize
what the step before it has found (prepared, worked).

\b
Examples:
  shardwise render run.yaml
  shardwise render run.yaml --step work --set sharding.shards=64
  shardwise render run.yaml | kubectl apply --dry-run=server -f -
"""
UNKNOWN_UID = "00000000-0000-0000-0000-000000000000"
_DEFAULT_IMAGE = "shardwise/worker:VERSION"
_REMARKS = {
    Step.PREPARE: "looks at the input, counts and checks; one pod",
    Step.WORK: "learns, one completion index per shard; `prepared` in run.json stands for what the prepare step finds "
    "(of scripts their number too: here as many as run at once, and those of podOverrides)",
    Step.FINALIZE: "puts together; `prepared` and `worked` in run.json stand for what the steps before it find",
}


@click.command(epilog=EPILOG)
@click.option(
    "--set", "overrides", multiple=True, metavar="PATH=VALUE",
    help="Override a field, as --set sharding.shards=8 (a field of spec) or --set metadata.name=other.",
)  # fmt: skip
@click.option(
    "--step", type=click.Choice([str(step) for step in Step]), help="The children of one step.  [default: all]"
)
@click.option("-n", "--namespace", metavar="NAME", help="Namespace.  [default: the manifest's, or default]")
@click.option(
    "--worker-image", default=_DEFAULT_IMAGE, show_default=True, help="As the chart's, for manifests without one."
)
@click.option(
    "--image-pull-policy", type=click.Choice(["IfNotPresent", "Always", "Never"]), default="IfNotPresent",
    show_default=True,
)  # fmt: skip
@click.option("--image-pull-secret", "pull_secrets", multiple=True, metavar="NAME", help="May be given several times.")
@click.option("--progress-url", metavar="URL", help="Where workers report, as the operator's service.")
@click.argument("manifest", type=click.Path(path_type=Path))
def render(
    manifest: Path, overrides: tuple[str, ...], step: str | None, namespace: str | None, worker_image: str,
    image_pull_policy: str, pull_secrets: tuple[str, ...], progress_url: str | None,
) -> None:  # fmt: skip
    """Show the children of MANIFEST's run as YAML, as the operator would make them; needs no cluster."""
    from shardwise_operator.children import ChildSettings

    try:
        run = load_manifest(manifest, overrides=overrides)
        if problems := relative_paths(run):
            raise InvalidManifest(problems)
    except InvalidManifest as error:
        fail(f"{manifest} is not valid:\n" + "\n".join(f"  {problem}" for problem in error.problems), EXIT_INVALID)
    for problem in warnings(run):
        echo(f"warning: {problem}", err=True)
    run.metadata.uid = run.metadata.uid or UNKNOWN_UID
    if namespace:
        run.metadata.namespace = namespace
    settings = ChildSettings(
        worker_image=worker_image,
        image_pull_policy=image_pull_policy,
        image_pull_secrets=pull_secrets,
        progress_url=progress_url,
    )
    chosen = [Step(step)] if step else list(Step)
    for text in documents(run, settings=settings, steps=chosen):
        sys.stdout.write(text)


def documents(run: Run, *, settings: Any, steps: list[Step]) -> Iterator[str]:
    """Yield YAML documents, each child once: those that all steps share come with the first."""
    import yaml

    from shardwise_operator.children import children_of

    seen = set()
    for action in actions(run):
        if action.step not in steps:
            continue
        remark = f"# step {action.step}: {_REMARKS[action.step]}\n"
        for child in children_of(run=run, action=action, settings=settings):
            key = (child["kind"], child["metadata"]["name"])
            if key in seen:
                continue
            seen.add(key)
            yield f"---\n{remark}{yaml.safe_dump(_plain(child), sort_keys=False, allow_unicode=True)}"
            remark = ""


def actions(run: Run) -> list[EnsureJob]:
    """Return what the operator's own plan asks for, step after step, were each to go well."""
    now = datetime.now(UTC)
    done = {
        Step.PREPARE: policy_of(run).imagined().model_dump_json(by_alias=True, exclude_none=True),
        Step.WORK: "",
    }
    # What a dry run leaves out is worth seeing too.
    fresh = policy_of(run).not_dry()
    fresh.status = None
    fresh.spec.suspend = False
    seen: dict[Step, JobView] = {}
    found = []
    for step in Step:
        (action,) = (a for a in plan(fresh, Observed(now=now, jobs=dict(seen))).actions if isinstance(a, EnsureJob))
        found.append(action)
        if step in done:
            seen[step] = JobView(
                state=JobState.COMPLETE,
                completions=action.completions,
                parallelism=action.parallelism,
                completed=frozenset(range(action.completions)),
                message=done[step],
                started=now,
                ended=now,
            )
    return found


def _plain(value: Any) -> Any:
    """Return plain values: YAML has no way to write an enumeration."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value
