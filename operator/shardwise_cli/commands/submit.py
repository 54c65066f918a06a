"""`shardwise submit`: a manifest to a cluster, judged here first, and followed to its end if asked for."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from shardwise_api.manifest import InvalidManifest, load_manifest
from shardwise_api.rules import Problem
from shardwise_api.runs import Run
from shardwise_api.terminal import echo

from ..cluster import names
from ..cluster.client import FIELD_MANAGER, Client
from ..cluster.cluster_checks import relative_paths, warnings
from ..cluster.errors import ApiError, ClientError, UsageProblem
from ..cluster.kubeconfig import ClusterOptions
from ..cluster.options import cluster_options, on_cluster
from ..cluster.view import RunView, view
from .common import EXIT_COMPLETE, EXIT_FAILED, EXIT_INVALID, fail

EPILOG = """
MANIFEST is judged by the same rules as for `shardwise run`, and exits with 2 when they are broken. Its paths are the
cluster's: absolute, on volumes that the worker mounts, or URIs.

With --watch or --wait: exit code 0 Complete, 1 Failed, 130 after Ctrl-C (the run goes on).

\b
Examples:
  shardwise submit run.yaml
  shardwise submit run.yaml --set sharding.shards=64 --set metadata.name=words-64 --watch
  shardwise submit run.yaml --dry-run=server
"""
_KEPT_METADATA = ("name", "namespace", "labels", "annotations", "finalizers", "ownerReferences")


@click.command(epilog=EPILOG)
@cluster_options
@click.option(
    "--set", "overrides", multiple=True, metavar="PATH=VALUE",
    help="Override a field, as --set sharding.shards=8 (a field of spec) or --set metadata.name=other.",
)  # fmt: skip
@click.option("--watch", "watching", is_flag=True, help="Follow it to its end, with a progress bar and the result.")
@click.option("--wait", "waiting", is_flag=True, help="Wait for its end without progress, then show the result.")
@click.option(
    "--dry-run", type=click.Choice(["none", "client", "server"]), default="none", show_default=True,
    help="client: judge and print what would be sent. server: let the API server judge too. Neither creates anything.",
)  # fmt: skip
@click.option("--force-conflicts", is_flag=True, help="Take over fields that somebody else has set.")
@click.argument("manifest", type=click.Path(path_type=Path))
def submit(
    options: ClusterOptions, manifest: Path, overrides: tuple[str, ...], watching: bool, waiting: bool, dry_run: str,
    force_conflicts: bool,
) -> None:  # fmt: skip
    """Create the run of MANIFEST in a cluster."""
    run = _load(manifest, overrides)
    document = to_send(run)
    for problem in warnings(run):
        echo(f"warning: {problem}", err=True)
    if dry_run == "client":
        import yaml

        click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), nl=False)
        sys.exit(EXIT_COMPLETE)
    sender = _Sender(run, document, namespace=options.namespace, dry_run=dry_run == "server", force=force_conflicts)
    on_cluster(
        options,
        lambda client: sender.send(client, watching=watching, waiting=waiting),
        interrupted=sender.interrupted,
    )


def to_send(run: Run) -> dict[str, Any]:
    """Return what is applied: what the manifest says and nothing more, so that defaults stay the API server's."""
    said = run.model_dump(mode="json", by_alias=True, exclude_unset=True)
    metadata = {key: said["metadata"][key] for key in _KEPT_METADATA if said["metadata"].get(key) is not None}
    return {"apiVersion": run.api_version, "kind": run.kind, "metadata": metadata, "spec": said["spec"]}


def _load(manifest: Path, overrides: tuple[str, ...]) -> Run:
    try:
        run = load_manifest(manifest, overrides=overrides)
        problems = relative_paths(run)
        if "generateName" in (run.metadata.model_extra or {}):
            problems.insert(0, Problem("metadata.generateName", "is not supported: the name is the run's identity"))
        if problems:
            raise InvalidManifest(problems)
    except InvalidManifest as error:
        fail(f"{manifest} is not valid:\n" + "\n".join(f"  {problem}" for problem in error.problems), EXIT_INVALID)
    return run


class _Sender:
    def __init__(
        self, run: Run, document: dict[str, Any], *, namespace: str | None, dry_run: bool, force: bool
    ) -> None:
        self._namespace = namespace
        self._document = document
        self._resource = names.RESOURCES[run.kind]
        self._name = names.RunName(kind=run.kind, name=run.metadata.name)
        self._dry_run = dry_run
        self._force = force
        self._created = False

    def interrupted(self) -> str:
        """Return what to tell on Ctrl-C."""
        if not self._created:
            return "interrupted"
        return (
            f"{self._name} goes on in the cluster. Look again: shardwise watch {self._name}; "
            f"stop it: shardwise suspend {self._name}"
        )

    async def send(self, client: Client, *, watching: bool, waiting: bool) -> int:
        """Create the run and, if asked for, follow it; return the exit code."""
        metadata = self._document["metadata"]
        given = metadata.setdefault("namespace", client.namespace)
        if self._namespace not in (None, given):
            raise ClientError(f"the manifest says namespace {given}, and -n says {self._namespace}: change one")
        client.namespace = given
        before = await self._existing(client)
        after = await self._apply(client, before)
        self._created = not self._dry_run
        changed = (
            before is None or after.document["metadata"]["generation"] != before.document["metadata"]["generation"]
        )
        told = "created" if before is None else "changed" if changed else "unchanged"
        echo(f"{self._name} {told}{' (dry run by the server)' if self._dry_run else ''}")
        if self._dry_run:
            return EXIT_COMPLETE
        if watching or waiting:
            return await self._follow(client, shown=watching)
        if after.finished:
            echo(self._is_over(after), err=True)
            return EXIT_FAILED
        echo(f"follow it: shardwise watch {self._name}; its logs: shardwise logs {self._name} -f", err=True)
        return EXIT_COMPLETE

    async def _existing(self, client: Client) -> RunView | None:
        from ..cluster.runs import get

        try:
            return view(await get(client, str(self._document["kind"]), self._name.name))
        except ApiError as error:
            if error.code == 404 and "not found" in str(error):
                return None
            raise

    async def _apply(self, client: Client, before: RunView | None) -> RunView:
        params = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict", "force": json.dumps(self._force)}
        if self._dry_run:
            params["dryRun"] = "All"
        try:
            answer = await client.call(
                "apply", self._resource, namespace=client.namespace, name=self._name.name, params=params,
                body=self._document,
            )  # fmt: skip
        except ApiError as error:
            if error.code != 422:
                raise
            if before is not None:
                way = f"delete it (shardwise delete {self._name} --wait), or give another name (--set metadata.name=…)"
                raise ClientError(f"{self._name} is there already ({before.phase}), and {error}\n{way}") from error
            raise UsageProblem(str(error)) from error
        return view(answer)

    def _is_over(self, run: RunView) -> str:
        return (
            f"{self._name} is {run.phase} already, and nothing was started: delete it first (shardwise delete "
            f"{self._name} --wait), or give another name (--set metadata.name=…)"
        )

    async def _follow(self, client: Client, *, shown: bool) -> int:
        from ..cluster.watching import display, watch
        from .get import print_result

        if shown:
            with display() as live:
                store = await watch(client, [self._name], namespace=client.namespace, shown=live)
        else:
            store = await watch(client, [self._name], namespace=client.namespace, shown=None)
        run = next(iter(store.runs), None)
        if run is None:
            raise ClientError(f"{self._name} was deleted before its end")
        if run.result is not None:
            print_result(run)
        if run.complete:
            return EXIT_COMPLETE
        echo(
            f"{self._name} {run.phase} ({run.trouble}): shardwise get {self._name}; shardwise logs {self._name}",
            err=True,
        )
        return EXIT_FAILED
