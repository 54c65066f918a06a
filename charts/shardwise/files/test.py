"""What `helm test` runs in the operator's image: are the kinds served, and does the operator say that it is ready?

It needs no rights: what the API server serves is told to every account.
"""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path(os.environ.get("SERVICE_ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount"))
PATIENCE_SECONDS = float(os.environ.get("PATIENCE_SECONDS", "60"))
# Both addresses are within the cluster: a proxy would look for them outside.
DIRECT = urllib.request.ProxyHandler({})


def served_kinds() -> set[str]:
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    host = f"[{host}]" if ":" in host else host
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    opener = urllib.request.build_opener(DIRECT, urllib.request.HTTPSHandler(context=context))
    request = urllib.request.Request(
        f"https://{host}:{port}/apis/shardwise.dev/v1alpha1",
        headers={"Authorization": f"Bearer {(ACCOUNT / 'token').read_text().strip()}"},
    )
    with opener.open(request, timeout=10) as answer:
        return {resource["kind"] for resource in json.load(answer)["resources"]}


def check() -> None:
    missing = {"TrainingRun", "IngestRun"} - served_kinds()
    if missing:
        raise OSError(f"the API server doesn't serve {', '.join(sorted(missing))}: install with crds.install=true")
    with urllib.request.build_opener(DIRECT).open(os.environ["READY_URL"], timeout=10):
        pass


def main() -> int:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            check()
        except OSError as error:
            where = f" from {error.url}" if isinstance(error, urllib.error.HTTPError) else ""
            if time.monotonic() >= deadline:
                print(f"not well: {error}{where}")
                return 1
            time.sleep(2)
        else:
            print("TrainingRun and IngestRun are served, and the operator is ready")
            return 0


if __name__ == "__main__":
    sys.exit(main())
