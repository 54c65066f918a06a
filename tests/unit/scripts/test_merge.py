"""One list of written, built-in and found jobs: no script twice, no id twice, and nothing lost in silence."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise_jobs.engines.scripts.discovery.config import canonical_jobs
from shardwise_jobs.engines.scripts.discovery.merge import Merged, merge
from shardwise_jobs.engines.scripts.model.job import SuiteJob
from shardwise_jobs.engines.scripts.model.validation_errors import InvalidSuite


def job(job_id: str, script: str | None = None, **more: Any) -> SuiteJob:
    return SuiteJob(id=job_id, name=job_id, script=script or f"{job_id}.py", output=f"{job_id}_results", **more)


def merged(
    *, written: tuple[SuiteJob, ...] = (), built_in: tuple[SuiteJob, ...] = (), found: tuple[SuiteJob, ...] = ()
) -> Merged:
    return merge(written=written, built_in=built_in, found=found)


def ids(result: Merged) -> list[str]:
    return [job.id for job in result.jobs]


def test_written_come_before_built_in_and_those_before_found() -> None:
    result = merged(written=(job("w"),), built_in=(job("b"),), found=(job("f"), job("a")))
    assert ids(result) == ["w", "b", "f", "a"]
    assert result.warnings == ()


def test_the_originals_tree_gives_ten_jobs_instead_of_seventeen() -> None:
    found = [job(f"train_{there.id}", there.script) for there in canonical_jobs()]
    others = (job("train_model"), job("train_baseline_models"), job("train_alzheimers_structured"))
    result = merged(built_in=canonical_jobs(), found=(*found, *others))
    assert ids(result) == [*(there.id for there in canonical_jobs()), *(there.id for there in others)]
    assert [there.aliases for there in result.jobs[:7]] == [(f"train_{there.id}",) for there in canonical_jobs()]
    assert result.warnings == ()


def test_what_was_written_of_a_job_stays_when_its_script_is_found() -> None:
    als = job("als", "train_als.py", args={"x": 1}, supports_epochs=False)
    result = merged(written=(als,), found=(job("train_als"),))
    assert result.jobs == (als.model_copy(update={"aliases": ("train_als",)}),)


def test_a_found_script_with_the_very_id_of_its_written_job_adds_no_name() -> None:
    assert merged(written=(job("Train_A", "train_a.py"),), found=(job("train_a"),)).jobs == (
        job("Train_A", "train_a.py"),
    )


def test_one_script_may_be_written_twice_and_both_hear_to_its_found_name() -> None:
    result = merged(written=(job("small", "train_a.py"), job("large", "train_a.py")), found=(job("train_a"),))
    assert [(there.id, there.aliases) for there in result.jobs] == [("small", ("train_a",)), ("large", ("train_a",))]


@pytest.mark.parametrize("written", [job("als", "other.py"), job("ALS", "other.py")])
def test_a_written_job_stands_for_the_built_in_one_with_its_id(written: SuiteJob) -> None:
    assert merged(written=(written,), built_in=(job("als"), job("ms"))).jobs == (written, job("ms"))


def test_a_written_job_stands_for_the_built_in_one_with_its_script_and_hears_to_its_id() -> None:
    result = merged(written=(job("mine", "als.py"),), built_in=(job("als"),), found=(job("train_als", "als.py"),))
    assert [(there.id, there.aliases) for there in result.jobs] == [("mine", ("als", "train_als"))]


def test_a_found_script_whose_id_is_taken_is_left_out_with_a_warning() -> None:
    result = merged(written=(job("a", "mine.py"),), found=(job("a", "theirs.py"),))
    assert result.jobs == (job("a", "mine.py"),)
    assert result.warnings == (
        "theirs.py: is left out, mine.py has its id a already; to run both, write one into jobs with an id of its own",
    )


def test_of_two_found_scripts_with_one_name_the_first_by_path_stays() -> None:
    result = merged(found=(job("train_x", "a/train_x.py"), job("train_x", "b/train_x.py")))
    assert [there.script for there in result.jobs] == ["a/train_x.py"]
    assert len(result.warnings) == 1


@pytest.mark.parametrize("other", ["a", "A"])
def test_an_id_written_twice_is_an_error(other: str) -> None:
    with pytest.raises(InvalidSuite, match=r"the id 'a' is given twice, for one\.py and two\.py|the id 'A' is given"):
        merged(written=(job("a", "one.py"), job(other, "two.py")))


class TestOverrides:
    def test_a_found_job_takes_the_place_of_the_one_with_its_id(self) -> None:
        written, found = (job("a", "mine.py", args={"x": 1}), job("b")), (job("a", "theirs.py"),)
        result = merge(written=written, built_in=(), found=found, allow_overrides=True)
        assert result.jobs == (job("a", "theirs.py"), job("b"))
        assert result.warnings == ()

    def test_what_is_detected_replaces_what_another_job_says_of_the_script(self) -> None:
        detected: dict[str, Any] = {
            "use_output_dir": False,
            "supports_epochs": False,
            "supports_folds": False,
            "supports_sample": False,
            "supports_batch": True,
            "detect_method": "ast",
            "spellings": {"batch": "--batch"},
        }
        written, found = (job("als", "train_als.py", args={"x": 1}),), (job("train_als", **detected),)
        result = merge(written=written, built_in=(), found=found, allow_overrides=True)
        assert result.jobs == (job("als", "train_als.py", args={"x": 1}, aliases=("train_als",), **detected),)

    def test_of_two_found_scripts_with_one_name_the_first_stays_all_the_same(self) -> None:
        found = (job("train_x", "a/train_x.py"), job("train_x", "b/train_x.py"))
        result = merge(written=(), built_in=(), found=found, allow_overrides=True)
        assert result.jobs == found[:1]
        assert len(result.warnings) == 1

    def test_two_found_scripts_with_its_id_do_not_both_take_the_place_of_a_job(self) -> None:
        found = (job("a", "x/a.py"), job("a", "y/a.py"))
        result = merge(written=(job("a"),), built_in=(), found=found, allow_overrides=True)
        assert result.jobs == found[:1]
        assert len(result.warnings) == 1

    def test_the_script_of_a_job_that_is_replaced_is_not_lost_when_it_was_found_too(self) -> None:
        found = (job("s"), job("x", "t.py"))
        result = merge(written=(job("x", "s.py"),), built_in=(), found=found, allow_overrides=True)
        assert result.jobs == (job("x", "t.py"), job("s"))


JOBS = st.builds(job, st.sampled_from("abcABC"), st.sampled_from(["a.py", "b.py", "c.py", "d.py"]))


@given(
    written=st.lists(JOBS, max_size=4, unique_by=lambda job: job.id.lower()),
    built_in=st.lists(JOBS, max_size=4, unique_by=lambda job: job.id.lower()),
    found=st.lists(JOBS, max_size=6, unique_by=lambda job: job.script),
    allow_overrides=st.booleans(),
)
def test_no_id_is_there_twice_and_every_script_has_a_job_or_a_warning(
    written: list[SuiteJob], built_in: list[SuiteJob], found: list[SuiteJob], allow_overrides: bool
) -> None:
    result = merge(written=written, built_in=built_in, found=found, allow_overrides=allow_overrides)
    lowered = [there.id.lower() for there in result.jobs]
    assert len(set(lowered)) == len(lowered)
    for there in found:
        kept = any(there.script == other.script for other in result.jobs)
        assert kept or any(warning.startswith(f"{there.script}: is left out") for warning in result.warnings)
