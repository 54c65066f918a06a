"""An S3-compatible server on a loopback port, as a process of its own, with buckets made by the real client."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from .leash import leashed

_START_SECONDS = 60
KEYS = {"AWS_ACCESS_KEY_ID": "shardwise", "AWS_SECRET_ACCESS_KEY": "only-for-tests"}


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """A running server."""

    url: str

    @property
    def environment(self) -> Mapping[str, str]:
        """What a Secret's envFrom and a manifest's env give a pod."""
        return {**KEYS, "AWS_ENDPOINT_URL": self.url, "AWS_DEFAULT_REGION": "us-east-1"}

    @property
    def client(self) -> Any:
        """A client that may do everything."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        )

    def bucket(self, name: str) -> str:
        """Make a bucket and return its name."""
        self.client.create_bucket(Bucket=name)
        return name

    def objects(self, bucket: str) -> dict[str, bytes]:
        """Return all that a bucket holds."""
        found = self.client.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {each["Key"]: self.client.get_object(Bucket=bucket, Key=each["Key"])["Body"].read() for each in found}

    @contextmanager
    def checking_keys(self) -> Iterator[None]:
        """Meanwhile refuse keys that nobody has made: all of them."""
        self._post("/moto-api/reset-auth", b"0")
        try:
            yield
        finally:
            self._post("/moto-api/reset-auth", b"inf")

    def _post(self, path: str, body: bytes) -> None:
        request = urllib.request.Request(f"{self.url}{path}", data=body, headers={"Content-Type": "text/plain"})
        with urllib.request.urlopen(request, timeout=30):
            pass


@contextmanager
def s3_server(*, address: str = "127.0.0.1") -> Iterator[S3Server]:
    """Run a server on a free port of one of the machine's own addresses."""
    command = Path(sys.executable).parent / "moto_server"
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            leashed(str(command), "-H", address, "-p", "0"),
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        try:
            yield S3Server(url=_announced(process, Path(f"/proc/self/fd/{log.fileno()}")))
        finally:
            process.terminate()
            process.wait()


def _announced(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while (found := re.search(r"Running on (http://\S+)", log.read_text(encoding="utf-8"))) is None:
        assert process.poll() is None, log.read_text(encoding="utf-8")
        assert time.monotonic() < deadline, "the S3 server said nothing"
        time.sleep(0.05)
    return found[1]
