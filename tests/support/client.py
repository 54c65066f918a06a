"""The client commands as a person types them, against a real API server; the test itself plays the operator."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from . import manifests
from .cli import SHARDWISE, Finished
from .kube import BUSYBOX, Cluster, eventually
from .leash import leashed

PORTABLE = """\
apiVersion: shardwise.dev/v1alpha1
kind: TrainingRun
metadata:
  name: words
spec:
  sharding: {shards: 8, parallelism: 2}
  output: {uri: "file:///data/out"}
  engine:
    kato:
      knowledgeBase: kb
      nodes:
      - {name: node0, chunkSize: 6}
      tokenizer: {builtin: words}
      store: {uri: "mongodb://mongo.default:27017"}
      dataset: {files: {uris: [/data/corpus.txt], format: text}}
  worker:
    volumes: [{name: data, emptyDir: {}}]
    volumeMounts: [{name: data, mountPath: /data}]
"""
"""A manifest whose paths mean something in a pod."""
INGEST = manifests.changed(
    manifests.INGEST, "source.files.uris=[/data/c.json]", "store.uri=postgres://db.default/chunks"
)
TIME = "2026-01-01T12:00:00Z"
RESULT: dict[str, Any] = {
    "digest": "sha256:1234",
    "uri": "file:///data/out/summary.json",
    "summary": {"guarantee": "ExactlyOnce"},
}


def condition(type_: str, status: str = "True", reason: str = "Tested", message: str = "") -> dict[str, Any]:
    """Return a condition."""
    return {"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": TIME}


def running(percent: int = 40, **more: Any) -> dict[str, Any]:
    """Return the status of a run of 100 items that is under way."""
    return {
        "phase": "Running",
        "startTime": TIME,
        "conditions": [condition("Accepted"), condition("Progressing")],
        "shards": {"total": 8, "active": 2, "succeeded": 3, "completedIndexes": "0-2"},
        "items": {"total": 100, "done": percent, "failed": 0, "skipped": 0},
        "progress": {"percent": percent, "ratePerSecond": 12.5, "estimatedRemainingSeconds": 200},
        **more,
    }


def complete() -> dict[str, Any]:
    """Return the status of a run that has its result."""
    return running(
        100,
        phase="Complete",
        completionTime=TIME,
        conditions=[condition("Accepted"), condition("Complete", reason="Finalized")],
        shards={"total": 8, "succeeded": 8, "completedIndexes": "0-7"},
        metrics=[{"name": "samples_processed", "value": 100}],
        result=RESULT,
    )


def failed(reason: str = "StoreUnavailable", message: str = "nobody answers") -> dict[str, Any]:
    """Return the status of a run that has failed."""
    return running(
        phase="Failed",
        completionTime=TIME,
        conditions=[condition("Accepted"), condition("Failed", reason=reason, message=message)],
        failures=[{"shard": 3, "exitCode": 1, "reason": "WorkerFailed", "message": "it broke"}],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """A person with a kubeconfig whose namespace is the test's."""

    corner: Cluster
    folder: Path
    kubeconfig: Path

    def manifest(self, *changes: str, text: str = PORTABLE) -> Path:
        """Write a manifest and return its path."""
        path = self.folder / "run.yaml"
        path.write_text(manifests.changed(text, *changes), encoding="utf-8")
        return path

    def submit(self, *changes: str, text: str = PORTABLE, name: str = "words") -> str:
        """Create a run and return its uid."""
        done = self(f"submit {self.manifest(f'metadata.name={name}', *changes, text=text)}")
        assert done.code == 0, done.err
        kind = "trun" if "TrainingRun" in text else "irun"
        return str(self.corner.get(kind, name)["metadata"]["uid"])

    def status(self, name: str, status: dict[str, Any], *, kind: str = "trainingrun.shardwise.dev") -> None:
        """Write what an operator would."""
        patch = json.dumps({"status": status})
        self.corner.kubectl("patch", kind, name, "--subresource=status", "--type=merge", f"--patch={patch}")

    def __call__(self, command: str) -> Finished:
        """Run `shardwise` with these words to its end."""
        done = subprocess.run(
            [SHARDWISE, *command.split()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self._environment(),
            timeout=120,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Finished(code=done.returncode, out=done.stdout, err=done.stderr)

    @contextmanager
    def started(self, command: str) -> Iterator[Started]:
        """Start `shardwise` with these words; it is ended with the block."""
        with subprocess.Popen(
            leashed(str(SHARDWISE), *command.split()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment(),
        ) as process:
            try:
                yield Started(process=process)
            finally:
                process.kill()

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        return {**kept, "KUBECONFIG": str(self.kubeconfig)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A command that runs."""

    process: subprocess.Popen[str]

    def line_with(self, text: str) -> str:
        """Read lines until one holds a text, and return that."""
        assert self.process.stdout is not None
        read = []
        for line in self.process.stdout:
            read.append(line)
            if text in line:
                return line.rstrip("\n")
        assert self.process.stderr is not None
        raise AssertionError(f"no line with {text!r} among {read}: {self.process.stderr.read()}")

    def end(self) -> Finished:
        """Wait for its end."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        # What `line_with` has read ahead is in these buffers, where `communicate` would not look.
        out, err = self.process.stdout.read(), self.process.stderr.read()
        self.process.wait(60)
        assert "Traceback" not in err, err
        return Finished(code=self.process.returncode, out=out, err=err)


def shell(corner: Cluster, folder: Path, **cluster: str) -> Shell:
    """Return a person in a corner of a cluster; `cluster` overrides fields of the kubeconfig's cluster."""
    given = yaml.safe_load(corner.kubectl("config", "view", "--raw", "--minify", "--flatten"))
    given["contexts"][0]["context"]["namespace"] = corner.namespace
    given["clusters"][0]["cluster"].update(cluster)
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(given), encoding="utf-8")
    path.chmod(0o600)
    return Shell(corner=corner, folder=folder, kubeconfig=path)


@contextmanager
def sheltered(corner: Cluster) -> Iterator[Cluster]:
    """Keep operators out of a namespace, so that the test alone says what its runs are at.

    An operator that is installed in the cluster would make Jobs for them and write statuses of its own.
    """
    name = f"only-the-test-in-{corner.namespace}"
    writer = "request.userInfo.username"
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": corner.namespace}},
                "resourceRules": [
                    {"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"], "operations": ["CREATE", "UPDATE"]}
                ],
            },
            "validations": [
                {
                    "expression": f"!{writer}.startsWith('system:serviceaccount:') || "
                    f"{writer}.startsWith('system:serviceaccount:kube-system:')",
                    "message": "only the test writes here",
                }
            ],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    corner.apply(policy, binding)
    try:
        eventually(lambda: "only the test writes here" in _operator_tries(corner), what="the shelter")
        yield corner
    finally:
        corner.kubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", name)


def _operator_tries(corner: Cluster) -> str:
    user = "--as=system:serviceaccount:shardwise:operator"
    # Of the group that may do everything, so that nothing but the shelter can refuse.
    words = ("create", "configmap", "probe", "--dry-run=server", user, "--as-group=system:masters")
    return corner.try_kubectl(*words).stderr


def worker_pod(name: str, *, run: str, uid: str, shard: int, script: str, step: str = "work") -> dict[str, Any]:
    """Return a pod as a run's Job would make it."""
    labels = {
        "shardwise.dev/run": run,
        "shardwise.dev/run-uid": uid,
        "shardwise.dev/step": step,
        "batch.kubernetes.io/job-completion-index": str(shard),
    }
    container = {
        "name": "worker",
        "image": BUSYBOX,
        "command": ["sh", "-c", script],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
        },
    }
