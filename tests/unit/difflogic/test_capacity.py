"""Samples in flight: as the manifest says, else as cores and memory allow, and always at least one."""

from __future__ import annotations

import pytest

from shardwise_api.difflogic import Preset
from shardwise_api.manifest import parse_manifest
from shardwise_api.runs import TrainingRunSpec
from shardwise_api.wire import Environment
from shardwise_jobs.engines.difflogic.experiments.presets import PRESETS
from shardwise_jobs.engines.difflogic.training import capacity
from tests.support.manifests import as_yaml
from tests.support.trainings import manifest


def spec(shards: int) -> TrainingRunSpec:
    run = parse_manifest(
        as_yaml(manifest({"preset": "GameOfLife", "steps": 1}, sharding={"shards": shards})), name="run.yaml"
    )
    assert isinstance(run.spec, TrainingRunSpec)
    return run.spec


def test_what_is_asked_for_is_done_but_no_more_than_there_are() -> None:
    assert capacity.samples_in_flight(asked=7, samples=20, sample_size=1 << 60) == 7
    assert capacity.samples_in_flight(asked=70, samples=20, sample_size=1) == 20


def test_otherwise_as_many_as_there_are_cores_for_each_worker_here() -> None:
    assert capacity.samples_in_flight(asked=None, samples=10_000, sample_size=1) == capacity.cores()
    assert capacity.samples_in_flight(asked=None, samples=10_000, sample_size=1, sharing=10_000) == 1


@pytest.mark.parametrize("limit", [1 << 30, None])
def test_memory_holds_them_back_and_one_is_always_tried(limit: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "memory_limit", lambda: limit)
    monkeypatch.setattr(capacity, "cores", lambda: 8)
    held = {1 << 20: 8, 1 << 27: 4, 1 << 40: 1}
    for size, most in held.items():
        expected = 8 if limit is None else most
        assert capacity.samples_in_flight(asked=None, samples=20, sample_size=size) == expected


@pytest.mark.parametrize(
    ("environment", "workers"),
    [
        ({}, 1),
        ({Environment.PARENT: "1"}, 4),
        ({Environment.RENDEZVOUS: "file:///x"}, 4),
        ({Environment.RENDEZVOUS: "tcp://x:1", "MPI_LOCALNRANKS": "4"}, 1),
        ({"MPI_LOCALNRANKS": "2"}, 2),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "3"}, 3),
    ],
)
def test_workers_on_one_machine_share_it(environment: dict[str, str], workers: int) -> None:
    assert capacity.sharing(environment, spec(4)) == workers


def test_a_sample_of_the_checkerboard_needs_far_less_than_all_its_activations() -> None:
    experiment = PRESETS[Preset.CHECKERBOARD_SYNC]
    automaton = experiment.model.wired(seed=1)
    size = capacity.sample_bytes(experiment, automaton=automaton, dtype="f64")
    assert size < 0.1 * automaton.evaluations * 256 * 20 * 8
    assert size > 21 * 8 * 256 * 8
