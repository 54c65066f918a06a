"""The test server itself: it comes back with what was committed, and does not outlive a killed test run."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psycopg2
import pytest

from tests.support.postgres_server import PostgresServer


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL])
def test_it_comes_back_on_the_same_port_with_what_was_committed(postgres: PostgresServer, how: signal.Signals) -> None:
    uri = postgres.new_database()
    postgres.execute("CREATE TABLE kept (x int)", uri=uri)
    postgres.execute("INSERT INTO kept VALUES (6)", uri=uri)
    postgres.restart(how)
    assert postgres.execute("SELECT x FROM kept", uri=uri) == [(6,)]


def test_it_listens_on_loopback_only_and_asks_for_the_password(postgres: PostgresServer) -> None:
    assert postgres.execute("SHOW listen_addresses") == [("127.0.0.1",)]
    assert postgres.execute("SHOW unix_socket_directories") == [("",)]
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(postgres.uri().replace("shardwise:", "shardwise:wrong"))


def test_it_ends_with_whoever_started_it_also_when_that_is_killed(postgres: PostgresServer) -> None:
    command = [sys.executable, "-m", "tests.support.postgres_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        uri = owner.stdout.readline().strip()
        ((data,),) = postgres.execute("SHOW data_directory", uri=uri)
        owner.kill()
    with suppress(psycopg2.OperationalError):
        while True:
            psycopg2.connect(uri).close()
    # The pid file goes last.
    while (Path(str(data)) / "postmaster.pid").exists():
        continue
    shutil.rmtree(Path(str(data)).parent)
