"""Scripts whose pods differ have Jobs of their own: all scripts in one of them, and one limit over all."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shardwise_api import indexes
from shardwise_api.manifest import parse_manifest
from shardwise_api.runs import Run
from shardwise_api.scripts import PodOverride
from shardwise_api.wire import PrepareResult, Step
from shardwise_operator.children import children_of
from shardwise_operator.children.job_groups import JobGroup, JobGroupState, job_groups_of, parallelisms
from shardwise_operator.core.actions import EnsureJob
from shardwise_operator.core.plan import run_document
from tests.support import manifests
from tests.support.fake_cluster import SETTINGS

GPU = {"limits": {"nvidia.com/gpu": 1}}
NODES = {"gpu": "h200"}


def suite(*overrides: dict[str, Any], worker: dict[str, Any] | None = None) -> Run:
    changes = [f"engine.scripts.podOverrides={json.dumps(overrides)}", f"worker={json.dumps(worker or {})}"]
    run = parse_manifest(
        manifests.changed(manifests.SCRIPTS, 'output={uri: "file:///data/out"}', *changes), name="test"
    )
    run.metadata.name, run.metadata.namespace, run.metadata.uid = "words", "team", "1234"
    return run


def ensured(run: Run, *parts: str, step: Step = Step.WORK, completions: int = 7, at_once: int = 3) -> EnsureJob:
    prepared = PrepareResult(items_total=completions, input_fingerprint="x", parts=list(parts))
    document = run_document(run, prepared=prepared)
    return EnsureJob(step=step, completions=completions, parallelism=at_once, document=document)


def made(run: Run, *parts: str) -> dict[str, dict[str, Any]]:
    """Return the Jobs of a suite's work step by name."""
    children = children_of(run=run, action=ensured(run, *parts), settings=SETTINGS)
    return {child["metadata"]["name"]: child for child in children if child["kind"] == "Job"}


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]["template"]["spec"]
    return found


class TestJobs:
    def test_those_of_an_entry_are_one_and_all_others_another(self) -> None:
        run = suite({"ids": ["a"], "resources": GPU}, {"ids": ["b"], "nodeSelector": NODES})

        jobs = made(run, "2", "4-6")

        assert {name: job["spec"]["completions"] for name, job in jobs.items()} == {
            "words": 3,
            "words-work-1": 1,
            "words-work-2": 3,
        }
        assert {name: job["metadata"]["annotations"] for name, job in jobs.items()} == {
            "words": {"shardwise.dev/part": "0/3", "shardwise.dev/shards": "0,1,3"},
            "words-work-1": {"shardwise.dev/part": "1/3", "shardwise.dev/shards": "2"},
            "words-work-2": {"shardwise.dev/part": "2/3", "shardwise.dev/shards": "4-6"},
        }
        assert all(job["metadata"]["labels"]["shardwise.dev/step"] == "work" for job in jobs.values())
        assert sum(job["spec"]["parallelism"] for job in jobs.values()) == 3
        assert all(job["spec"]["maxFailedIndexes"] == job["spec"]["completions"] for job in jobs.values())

    def test_their_pods_know_which_scripts_they_are_of_and_read_one_document(self) -> None:
        job = made(suite({"ids": ["a"], "resources": GPU}, worker={"annotations": {"mine": "yes"}}), "2,5")[
            "words-work-1"
        ]

        (container,) = pod_of(job)["containers"]
        assert {"name": "SHARDWISE_SHARDS", "value": "2,5"} in container["env"]
        assert job["spec"]["template"]["metadata"]["annotations"] == {"mine": "yes", "shardwise.dev/shards": "2,5"}
        assert pod_of(job)["volumes"][0]["configMap"] == {"name": "words"}
        (spread,) = pod_of(job)["topologySpreadConstraints"]
        assert spread["labelSelector"] == {"matchLabels": {"batch.kubernetes.io/job-name": "words-work-1"}}

    def test_what_an_entry_gives_takes_the_workers_place_and_the_rest_stays(self) -> None:
        worker = {
            "resources": {"limits": {"cpu": 1}}, "nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "mine"}],
        }  # fmt: skip
        run = suite({"ids": ["a"], "resources": GPU, "tolerations": [{"key": "gpu"}]}, worker=worker)

        jobs = made(run, "2")

        others, own = pod_of(jobs["words"]), pod_of(jobs["words-work-1"])
        assert (others["containers"][0]["resources"], own["containers"][0]["resources"]) == (
            {"limits": {"cpu": 1}},
            GPU,
        )
        assert others["nodeSelector"] == own["nodeSelector"] == {"disk": "ssd"}
        assert [[t["key"] for t in pod["tolerations"]][2:] for pod in (others, own)] == [["mine"], ["gpu"]]

    def test_an_empty_value_takes_the_workers_away(self) -> None:
        run = suite({"ids": ["a"], "nodeSelector": {}}, worker={"nodeSelector": {"disk": "ssd"}})
        assert "nodeSelector" not in pod_of(made(run, "2")["words-work-1"])

    def test_there_is_none_without_scripts(self) -> None:
        run = suite({"ids": ["a"], "resources": GPU}, {"ids": ["b"], "resources": GPU})
        assert [*made(run, "", "3")] == ["words", "words-work-2"]
        assert [*made(run, "0-4", "5,6")] == ["words-work-1", "words-work-2"]
        assert [*made(run, "0-6", "")] == ["words-work-1"]

    def test_one_alone_is_a_runs_own_and_says_nothing_of_groups(self) -> None:
        (job,) = made(suite()).values()
        assert job["metadata"]["name"] == "words"
        assert "annotations" not in job["metadata"]
        assert "SHARDWISE_SHARDS" not in str(job)

    def test_single_steps_are_as_ever(self) -> None:
        run = suite({"ids": ["a"], "resources": GPU})
        action = ensured(run, "2", step=Step.PREPARE, completions=1, at_once=1)
        assert job_groups_of(run, action) == (JobGroup(number=0, of=1, completions=1),)


def _groups(sizes: list[int]) -> list[JobGroup]:
    return [
        JobGroup(number=number, of=len(sizes), completions=size, shards="x", override=PodOverride(ids=["a"]))
        for number, size in enumerate(sizes)
    ]


SUITE = suite()


def _action(at_once: int) -> EnsureJob:
    return ensured(SUITE, at_once=at_once)


class TestParallelism:
    def test_everybody_gets_a_place_in_turn(self) -> None:
        assert parallelisms(SUITE, _action(7), _groups([10, 10, 1])) == {0: 3, 1: 3, 2: 1}

    def test_a_part_waits_when_there_are_fewer_places_than_groups(self) -> None:
        assert parallelisms(SUITE, _action(2), _groups([5, 5, 5])) == {0: 1, 1: 1, 2: 0}

    def test_places_that_one_part_needs_no_more_go_to_the_others(self) -> None:
        states = {0: JobGroupState(parallelism=2, left=1), 1: JobGroupState(parallelism=2, left=8)}
        assert parallelisms(SUITE, _action(4), _groups([10, 10]), states=states) == {0: 2, 1: 3}

    def test_alone_it_has_what_the_run_says_also_when_that_is_less_than_before(self) -> None:
        now = {0: JobGroupState(parallelism=5, left=5)}
        assert parallelisms(SUITE, _action(2), _groups([5]), states=now) == {0: 2}

    def test_under_a_queue_that_admits_jobs_by_their_size_none_changes_and_none_is_left_without_a_place(self) -> None:
        run = suite(worker={"labels": {"kueue.x-k8s.io/queue-name": "q"}})
        states = {0: JobGroupState(parallelism=1, left=0)}
        assert parallelisms(run, _action(2), _groups([5, 5, 5]), states=states) == {0: 1, 1: 1, 2: 1}
        assert parallelisms(run, _action(7), _groups([2, 9, 9]), states=states) == {0: 2, 1: 3, 2: 2}

    @given(sizes=st.lists(st.integers(1, 9), min_size=2, max_size=5), at_once=st.integers(1, 12), data=st.data())
    def test_whatever_ends_the_limit_holds_nothing_is_lowered_and_no_place_stays_empty(
        self, sizes: list[int], at_once: int, data: st.DataObject
    ) -> None:
        groups = _groups(sizes)
        left = dict(enumerate(sizes))
        action = _action(at_once)
        given = parallelisms(SUITE, action, groups)
        for _ in range(sum(sizes)):
            at_work = {number: min(given[number], left[number]) for number in left}
            assert sum(at_work.values()) == min(at_once, sum(left.values()))
            left[data.draw(st.sampled_from([number for number, count in at_work.items() if count]))] -= 1
            states = {n: JobGroupState(parallelism=given[n], left=left[n]) for n in left}
            after = parallelisms(SUITE, action, groups, states=states)
            assert all(after[number] >= given[number] for number in given)
            given = after

    @given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
    def test_every_script_is_in_one_job(self, shapes: list[int]) -> None:
        run = suite(*({"ids": [str(number)], "resources": GPU} for number in (1, 2, 3)))
        texts = [indexes.to_text(i for i, shape in enumerate(shapes) if shape == number) for number in (1, 2, 3)]
        groups = job_groups_of(run, ensured(run, *texts, completions=len(shapes)))
        members = [member for group in groups for member in indexes.from_text(group.shards or "")]
        assert sorted(members) == list(range(len(shapes)))
        assert {group.of for group in groups} == {len(groups)}
        assert all(group.completions == len(indexes.from_text(group.shards or "")) > 0 for group in groups)
