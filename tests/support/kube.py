"""kubectl for tests: a namespace for each of them, and waiting that ends with what was seen last."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.api_reader import NoAnswer, Refused, read

# A cluster that isn't ours gets its images elsewhere.
BUSYBOX = os.environ.get("SHARDWISE_TEST_IMAGE", "shardwise.test/busybox:1")
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 30
_NO_ANSWER = re.compile(r"etcdserver: |handshake timeout|connection refused|connection lost|i/o timeout|EOF")
"""What kubectl says when there was no answer, as a busy server gives now and then; any answer counts."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A cluster, or with a `namespace` a corner of it."""

    kubeconfig: Path
    own: bool
    namespace: str = "default"

    def try_kubectl(self, *arguments: str | Path, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl and return how it went."""
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        environment["KUBECONFIG"] = str(self.kubeconfig)
        words = ["kubectl", f"--namespace={self.namespace}", *map(str, arguments)]
        return subprocess.run(
            words, env=environment, input=given, capture_output=True, text=True, timeout=120, check=False
        )

    def kubectl(self, *arguments: str | Path, given: str | None = None) -> str:
        """Run kubectl, which must go well, and return what it printed."""
        result = self.try_kubectl(*arguments, given=given)
        assert result.returncode == 0, f"kubectl {' '.join(map(str, arguments))}: {result.stderr or result.stdout}"
        return result.stdout

    def get(self, *arguments: str) -> Any:
        """Return an object or a list as the API server tells it, which may be busy for a while."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return self._got(arguments)
            except (NoAnswer, Refused) as error:
                if isinstance(error, Refused) or time.monotonic() > end:
                    raise AssertionError(f"get {' '.join(arguments)}: {error}") from error
            time.sleep(_POLL_SECONDS)

    def _got(self, arguments: Sequence[str]) -> Any:
        found = read(self.kubeconfig, namespace=self.namespace, words=arguments)
        if found is not None:
            return found
        result = self.try_kubectl("get", *arguments, "--output=json")
        if result.returncode == 0:
            return json.loads(result.stdout)
        raise (NoAnswer if _NO_ANSWER.search(result.stderr) else Refused)(result.stderr or result.stdout)

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply objects, server-side."""
        self.kubectl("apply", "--server-side", "--filename=-", given=yaml.safe_dump_all(objects))

    @contextmanager
    def own_namespace(self, name: str) -> Iterator[Cluster]:
        """A new namespace that goes with all that is in it."""
        name = f"{name}-{uuid.uuid4().hex[:6]}"
        self.kubectl("create", "namespace", name)
        try:
            yield Cluster(kubeconfig=self.kubeconfig, own=self.own, namespace=name)
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false")


def eventually(probe: Callable[[], Any], *, seconds: float = 60, what: str = "") -> Any:
    """Return the probe's answer once it is true; fail with the last one."""
    deadline = time.monotonic() + seconds
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"{what or probe}: still {answer!r} after {seconds:.0f} s"
        time.sleep(_POLL_SECONDS)
    return answer
