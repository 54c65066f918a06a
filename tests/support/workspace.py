"""A corner of a cluster with data and a volume, and runs in it, as a person with kubectl has them."""

from __future__ import annotations

import copy
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardwise_api.runs import KINDS
from shardwise_api.status import ConditionType, RunStatus
from tests.support.cli import BASE
from tests.support.expected import CORPUS
from tests.support.kube import Cluster, eventually

DATA = "/data"
USER = 65532
RUN_SECONDS = 300.0


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """A namespace in which only restricted pods are allowed, and a folder that is a volume there."""

    cluster: Cluster
    folder: Path
    mongo: str
    kato: str

    @property
    def namespace(self) -> str:
        """Its name."""
        return self.cluster.namespace

    def manifest(self, name: str, *, samples: int = 100, transport: str = "Direct", **spec: Any) -> dict[str, Any]:
        """Return a manifest of a KATO run on the example corpus; `spec` goes over its spec."""
        manifest = copy.deepcopy(BASE)
        manifest["metadata"] = {"name": name, "namespace": self.namespace}
        manifest["spec"]["sharding"] = {"shards": 4}
        manifest["spec"]["output"] = {"uri": f"file://{DATA}/{name}"}
        manifest["spec"]["worker"] = {
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
            "volumeMounts": [{"name": "data", "mountPath": DATA}],
        }
        kato = manifest["spec"]["engine"]["kato"]
        # A knowledge base of its own for each run: tests share the stores.
        kato["knowledgeBase"] = f"kb-{uuid.uuid4().hex[:12]}"
        kato["dataset"] = {"files": {"uris": [f"{DATA}/pydocs.jsonl"]}, "maxSamples": samples}
        if transport == "Rest":
            kato["transport"] = "Rest"
            kato["server"] = {"url": self.kato}
            del kato["store"]
        else:
            kato["store"] = {"uri": self.mongo}
        manifest["spec"].update(spec)
        return manifest

    @contextmanager
    def volume(self, claim: str) -> Iterator[None]:
        """Have a volume ready for a claim of this name that somebody will make."""
        folder = self.folder / claim
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)
        name = f"{self.namespace}-{claim}"
        self.cluster.apply(_persistent(name, folder, namespace=self.namespace, claim=claim))
        _wait_for(self.cluster, f"persistentvolume/{name}", phase="Available")
        try:
            yield
        finally:
            self.cluster.kubectl("delete", "persistentvolume", name, "--wait=false")

    def submit(self, name: str, **options: Any) -> Submitted:
        """Apply a manifest and return the run."""
        return self.apply(self.manifest(name, **options))

    def apply(self, manifest: dict[str, Any]) -> Submitted:
        """Apply a manifest as it is."""
        self.cluster.apply(manifest)
        return Submitted(cluster=self.cluster, name=manifest["metadata"]["name"], kind=manifest["kind"])


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A run in the cluster."""

    cluster: Cluster
    name: str
    kind: str = "TrainingRun"

    @property
    def body(self) -> dict[str, Any]:
        """The resource as it is now."""
        found: dict[str, Any] = self.cluster.get(self._resource, self.name)
        return found

    @property
    def status(self) -> RunStatus:
        """Its status as it is now."""
        return RunStatus.model_validate(self.body.get("status", {}))

    def patch(self, spec: dict[str, Any]) -> None:
        """Change the spec as `kubectl patch` does."""
        import json

        self.cluster.kubectl(
            "patch", self._resource, self.name, "--type=merge", f"--patch={json.dumps({'spec': spec})}"
        )

    def until(self, probe: Callable[[RunStatus], Any], *, seconds: float = RUN_SECONDS, what: str = "") -> RunStatus:
        """Return the first status that the probe likes; a run that ends before fails at once."""
        seen: list[RunStatus] = []

        def look() -> bool:
            status = self.status
            seen[:] = [status]
            liked = bool(probe(status))
            assert liked or not status.finished, f"{what}: the run ended before: {told(status)}"
            return liked

        eventually(look, seconds=seconds, what=what or "the run")
        return seen[0]

    def finish(self, *, seconds: float = RUN_SECONDS) -> RunStatus:
        """Return the status at the end."""
        return self.until(lambda status: status.finished, seconds=seconds, what=f"{self.name} ends")

    def complete(self, *, seconds: float = RUN_SECONDS) -> RunStatus:
        """Return the status at the end, which must be a good one."""
        status = self.finish(seconds=seconds)
        assert status.is_true(ConditionType.COMPLETE), f"{told(status)}\n{self._pods_said()}"
        return status

    def refused(self, type_: ConditionType, reason: str, *, seconds: float = 60) -> str:
        """Wait until a condition is False for a reason, and return its message."""

        def look() -> str | None:
            condition = self.status.condition(type_)
            found = condition is not None and condition.status == "False" and condition.reason == reason
            return (condition.message or "-") if found and condition is not None else None

        message = eventually(look, seconds=seconds, what=f"{type_}=False/{reason}; is {told(self.status)}")
        return str(message)

    def pods(self, *selectors: str) -> list[dict[str, Any]]:
        """Return the run's pods."""
        labels = ",".join([f"shardwise.dev/run={self.name}", *selectors])
        found: list[dict[str, Any]] = self.cluster.get("pods", f"--selector={labels}")["items"]
        return found

    def events(self) -> list[dict[str, Any]]:
        """Return the Events that regard the run."""
        found = self.cluster.get("events", f"--field-selector=involvedObject.name={self.name}")["items"]
        return [event for event in found if event["involvedObject"]["kind"] == self.kind]

    @property
    def _resource(self) -> str:
        return KINDS[self.kind].plural

    def _pods_said(self) -> str:
        return "\n".join(
            self.cluster.try_kubectl("logs", pod["metadata"]["name"], "--tail=15").stdout for pod in self.pods()
        )


def told(status: RunStatus) -> str:
    """Return conditions and failures in few lines, for a failed assertion."""
    lines = [f"{c.type}={c.status} {c.reason} {c.message}".rstrip() for c in status.conditions]
    lines += [f"failure: {failure}" for failure in status.failures]
    return f"{status.phase}; " + "; ".join(lines)


@contextmanager
def workspace(*, cluster: Cluster, name: str, root: Path, mongo: str, kato: str) -> Iterator[Workspace]:
    """Make a namespace with a claim `data` that holds the example corpus; all of it goes again."""
    with cluster.own_namespace(name) as corner:
        folder = root / corner.namespace
        folder.mkdir(parents=True)
        folder.chmod(0o777)
        shutil.copyfile(CORPUS, folder / CORPUS.name)
        corner.kubectl(
            "label", "namespace", corner.namespace, "pod-security.kubernetes.io/enforce=restricted", "--overwrite"
        )
        # A claim that is seen before its volume is looked at again after up to 15 s, and the first run would wait.
        corner.apply(_persistent(corner.namespace, folder, namespace=corner.namespace, claim="data"))
        _wait_for(corner, f"persistentvolume/{corner.namespace}", phase="Available")
        corner.apply(_claim(corner.namespace))
        _wait_for(corner, "persistentvolumeclaim/data", phase="Bound")
        try:
            yield Workspace(cluster=corner, folder=folder, mongo=mongo, kato=kato)
        finally:
            corner.kubectl("delete", "trun,irun", "--all", "--wait=false")
            corner.kubectl("delete", "persistentvolume", corner.namespace, "--wait=false")
            shutil.rmtree(folder, ignore_errors=True)


def _wait_for(cluster: Cluster, what: str, *, phase: str) -> None:
    cluster.kubectl("wait", f"--for=jsonpath={{.status.phase}}={phase}", what, "--timeout=60s")


def _claim(volume: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "",
            "volumeName": volume,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def _persistent(name: str, folder: Path, *, namespace: str, claim: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
            # As much as any claim asks for; nobody counts what is in a folder.
            "capacity": {"storage": "10Gi"},
            "hostPath": {"path": str(folder), "type": "Directory"},
            "claimRef": {"namespace": namespace, "name": claim},
        },
    }
