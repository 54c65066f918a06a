"""How the service starts: with nothing around it, or not at all and with a reason."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from shardwise_jobs.services.ingest.settings import DEFAULT_ENDPOINT
from tests.support.ingest_service import IngestService, command, environment, ingest_service


def ended(folder: Path, *options: str, model: Path, port: int = 0, **variables: str) -> tuple[int, list[str]]:
    """Start a service that can't; return its exit code and the lines of its standard error."""
    done = subprocess.run(
        command(*options, port=port),
        env=environment(model=model, changes=variables),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def test_without_any_setting_it_says_that_no_llm_is_asked_and_how_one_would_be(service: IngestService) -> None:
    assert service.get("/")["tmd_backend"] == "embedded"
    assert f"without an LLM; --tmd ollama asks one, at {DEFAULT_ENDPOINT} by default" in service.server.log()


@pytest.mark.parametrize(
    ("variables", "options", "said"),
    [
        ({"LNSP_MAX_PARALLEL_WORKERS": "0"}, [], "LNSP_MAX_PARALLEL_WORKERS='0': max_workers must be greater than 0"),
        ({}, ["--workers", "-3"], "max_workers=-3: max_workers must be greater than 0"),
        ({"LNSP_LLM_ENDPOINT": "ftp://host"}, [], "the LLM's endpoint 'ftp://host' is no http or https URL"),
        ({"PG_DSN": "no connection string"}, [], "PG_DSN: not a connection string"),
        ({"SHARDWISE_STORE_URI": "redis://host"}, [], "store.uri: unknown scheme 'redis'"),
        ({"SHARDWISE_MODEL": "/nowhere"}, [], "/nowhere"),
        ({}, ["--store", "sqlite:////proc/no/chunks.db"], "sqlite store /proc/no/chunks.db: "),
    ],
)
def test_what_can_never_work_ends_the_start_in_one_line(
    model: Path, tmp_path: Path, variables: dict[str, str], options: list[str], said: str
) -> None:
    named = {"model": model, **variables}
    code, lines = ended(tmp_path, *options, **named)  # type: ignore[arg-type]
    assert code in (1, 2)
    assert lines[-1].startswith("error: ")
    assert said in lines[-1]
    assert "Traceback" not in "".join(lines)


def test_a_port_in_use_ends_the_start(model: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, lines = ended(tmp_path, model=model, port=port)
    assert (code, lines[-1].startswith(f"error: can't listen on 127.0.0.1:{port}: ")) == (1, True)


def test_variables_that_do_nothing_are_said_to(model: Path, tmp_path: Path) -> None:
    variables = {"OLLAMA_NUM_PARALLEL": "4", "LNSP_TMD_FAST_CONF_MIN": "0.6", "FAISS_NPROBE": "8", "LNSP_TYPO": "1"}
    with ingest_service(model=model, folder=tmp_path, **variables) as service:
        log = service.server.log()
    for name in variables:
        assert f"{name} has no effect: " in log
    assert (tmp_path / "chunks.db").exists()


def test_the_client_backend_fails_chunks_without_codes(model: Path, tmp_path: Path) -> None:
    with ingest_service("--tmd", "client", model=model, folder=tmp_path, LNSP_LLM_MODEL="llama3.1:8b") as service:
        assert service.get("/")["tmd_backend"] == "client"
        (result,) = service.ingest({"text": "x"})["results"]
    assert "backend client needs domain_code, task_code and modifier_code" in result["error"]


def test_the_module_is_the_command_where_there_is_no_client(tmp_path: Path) -> None:
    import sys

    help_text = subprocess.run(
        [sys.executable, "-m", "shardwise_jobs.services.ingest", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "Usage: shardwise ingest serve" in help_text
    for option in ("--tmd [ollama|embedded|client]", "LNSP_ENABLE_PARALLEL", "PG_DSN", "8004"):
        assert option in help_text
