"""The variables of the original, each with its rule."""

from __future__ import annotations

import pytest
from psycopg2.extensions import parse_dsn

from shardwise.engine.errors import BadConfiguration
from shardwise_api.ingest import TmdBackendKind
from shardwise_jobs.services.ingest.settings import DEFAULT_STORE, Settings, without_effect


@pytest.mark.parametrize(
    ("value", "on"), [("true", True), ("TRUE", True), ("", True), ("1", False), ("yes", False), ("false", False)]
)
def test_true_in_any_case_is_on_and_every_other_word_is_off(value: str, on: bool) -> None:
    settings = Settings.from_environment({"LNSP_ENABLE_PARALLEL": value, "LNSP_ENABLE_BATCH_EMBEDDINGS": value})
    assert (settings.parallel, settings.batch_embeddings, settings.workers) == (on, on, 10 if on else 1)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("LNSP_MAX_PARALLEL_WORKERS", "0", "max_workers must be greater than 0"),
        ("LNSP_MAX_PARALLEL_WORKERS", "-1", "max_workers must be greater than 0"),
        ("LNSP_MAX_PARALLEL_WORKERS", "many", "valid integer"),
        ("LNSP_TMD_MODE", "hybrid", "only full is offered"),
        ("LNSP_TMD_FAST_FIRST", "true", "rules by keywords are not offered"),
        ("LNSP_ENABLE_CPESH", "True", "CPESH is not offered"),
        ("LNSP_LLM_PROVIDER", "openai", "the only provider is local_llama"),
        ("LNSP_ALLOW_MOCK", "1", "there are no mock answers"),
    ],
)
def test_what_is_not_offered_or_makes_no_sense_is_refused_by_name(name: str, value: str, said: str) -> None:
    with pytest.raises(BadConfiguration) as refused:
        Settings.from_environment({name: value})
    assert str(refused.value).startswith(f"{name}={value!r}: ")
    assert said in str(refused.value)


def test_what_is_not_offered_may_be_switched_off() -> None:
    off = {"LNSP_TMD_MODE": "full", "LNSP_TMD_FAST_FIRST": "false", "LNSP_ENABLE_CPESH": "0", "LNSP_ALLOW_MOCK": "0"}
    assert Settings.from_environment(off) == Settings()


@pytest.mark.parametrize(
    ("environment", "backend"),
    [
        ({}, TmdBackendKind.EMBEDDED),
        ({"LNSP_MAX_PARALLEL_WORKERS": "4"}, TmdBackendKind.EMBEDDED),
        ({"LNSP_LLM_ENDPOINT": "host:1"}, TmdBackendKind.OLLAMA),
        ({"LNSP_TMD_LLM_MODEL": "m"}, TmdBackendKind.OLLAMA),
        ({"LNSP_LLM_MODEL": "m"}, TmdBackendKind.OLLAMA),
        ({"LNSP_LLM_PROVIDER": "local_llama"}, TmdBackendKind.OLLAMA),
    ],
)
def test_an_llm_is_asked_when_anything_names_one_and_what_is_given_goes_first(
    environment: dict[str, str], backend: TmdBackendKind
) -> None:
    assert Settings.from_environment(environment).backend is backend
    assert Settings.from_environment(environment, tmd="client").backend is TmdBackendKind.CLIENT


def test_the_store_is_the_one_named_last_on_the_way_to_the_command_line() -> None:
    assert Settings.from_environment({}).store_uri == DEFAULT_STORE
    both = {"PG_DSN": "postgresql://h/d", "SHARDWISE_STORE_URI": "sqlite:///a.db"}
    assert Settings.from_environment({"PG_DSN": "postgresql://h/d"}).store_uri == "postgresql://h/d"
    assert Settings.from_environment(both).store_uri == "sqlite:///a.db"
    assert Settings.from_environment(both, store="sqlite:///b.db").store_uri == "sqlite:///b.db"


def test_a_connection_string_keeps_every_part_whatever_letters_it_has() -> None:
    dsn = r"host=/run/pg port=5433 dbname=a&b user='ü ?' password='p@ss\'w/rd%' sslmode=require"
    assert parse_dsn(Settings.from_environment({"PG_DSN": dsn}).store_uri) == parse_dsn(dsn)


def test_a_password_is_in_no_message() -> None:
    settings = Settings.from_environment({"PG_DSN": "password=secret nonsense", "SHARDWISE_STORE_URI": ""})
    with pytest.raises(BadConfiguration) as refused:
        _ = settings.store_uri
    assert "secret" not in f"{refused.value} {settings!r} {settings.shown()}"


def test_variables_without_effect_are_told_and_others_are_not() -> None:
    environment = {"HOME": "/", "LNSP_TMD_MODE": "full", "FAISS_NPROBE": "4", "LNSP_MODE": "x", "OLLAMA_MAX_QUEUE": "1"}
    assert [line.partition(" ")[0] for line in without_effect(environment)] == [
        "FAISS_NPROBE",
        "LNSP_MODE",
        "OLLAMA_MAX_QUEUE",
    ]
