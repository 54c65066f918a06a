"""Local Jobs keep the rules of an Indexed Job, with real processes: small scripts that do as a worker would."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from shardwise_api.common import Retry
from shardwise_api.wire import Step, StepFailure
from shardwise_cli.local.jobs import LocalJob
from shardwise_cli.local.workdir import Workdir
from shardwise_operator.core.observed import JobState
from shardwise_operator.core.retry_policy import RetryPolicy
from tests.support.local_jobs import GRACEFUL, PATIENT_SECONDS, Jobs, exists, jobs_in, over, to_the_end, until


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with jobs_in(tmp_path) as made:
        yield made


class TestCompletion:
    def test_a_job_whose_indexes_are_done_is_complete(self, jobs: Jobs) -> None:
        job = jobs("tell('{\"digest\": 1}')", completions=3)
        to_the_end(job)
        view = job.view()
        assert (view.state, view.completed, view.failed, view.reason) == (
            JobState.COMPLETE,
            frozenset({0, 1, 2}),
            frozenset(),
            "",
        )
        assert view.message == '{"digest": 1}'
        assert view.started is not None
        assert view.ended is not None
        assert view.started < view.ended
        assert (view.active, view.running, job.failures) == (0, frozenset(), [])

    def test_a_worker_knows_its_run_its_step_its_index_and_its_runner(self, jobs: Jobs) -> None:
        names = ["RUN", "STEP", "TERMINATION_LOG", "PROGRESS", "PARENT"]
        job = jobs(
            f"import json; tell(json.dumps({{n: os.environ['SHARDWISE_' + n] for n in {names}}} | {{'index': shard}}))"
        )
        to_the_end(job)
        assert json.loads(job.view().message) == {
            "RUN": str(jobs.folder / "work.json"),
            "STEP": "work",
            "TERMINATION_LOG": str(jobs.folder / "results" / "work-0.json"),
            "PROGRESS": (jobs.folder / "progress").as_uri(),
            "PARENT": str(os.getpid()),
            "index": 0,
        }

    def test_the_command_of_a_worker_is_the_worker_entry(self, jobs: Jobs) -> None:
        job = LocalJob(
            step=Step.WORK, completions=1, parallelism=1, rules=RetryPolicy(per_index=0, max_failed=0),
            workdir=Workdir(jobs.folder), document=jobs.folder / "missing.json", environment={},
        )  # fmt: skip
        jobs.made.append(job)
        to_the_end(job)
        told = StepFailure.model_validate_json(job.view().message)
        assert told.reason == "InvalidSpec"
        assert "missing.json" in told.message

    def test_what_workers_print_is_kept_per_attempt(self, jobs: Jobs) -> None:
        job = jobs("n = attempt(); print('attempt', n); sys.exit(n < 2)")
        to_the_end(job)
        logs = sorted((jobs.folder / "logs").iterdir())
        assert [(path.name, path.read_text()) for path in logs] == [
            ("shard-0-attempt-1.log", "attempt 1\n"),
            ("shard-0-attempt-2.log", "attempt 2\n"),
        ]


class TestParallelism:
    def test_it_is_reached_and_never_exceeded(self, jobs: Jobs) -> None:
        job = jobs("note('started'); wait_for('go')", completions=7, parallelism=3)
        most = 0

        def count() -> None:
            nonlocal most
            alive = [pid for pid in job.pids() if psutil.pid_exists(pid)]
            most = max(most, len(alive), job.view().active)

        until(job, exists(jobs, "started-0", "started-1", "started-2"), each=count)
        assert (job.view().active, job.view().running) == (3, frozenset({0, 1, 2}))
        (jobs.folder / "go").touch()
        until(job, lambda: over(job), each=count)
        assert most == 3
        assert job.view().completed == set(range(7))

    def test_fewer_indexes_than_workers_are_no_trouble(self, jobs: Jobs) -> None:
        job = jobs("pass", completions=2, parallelism=8)
        to_the_end(job)
        assert job.view().completed == {0, 1}


class TestRetries:
    def test_an_index_that_fails_is_tried_again_and_may_be_done(self, jobs: Jobs) -> None:
        job = jobs("sys.exit(1 if attempt() < 3 else 0)", retry=Retry(per_shard=2))
        to_the_end(job)
        assert job.view().state is JobState.COMPLETE
        assert jobs.attempts() == 3
        assert [(failure.shard, failure.exit_code, failure.reason) for failure in job.failures] == [
            (0, 1, "WorkerFailed"),
            (0, 1, "WorkerFailed"),
        ]

    def test_an_index_gets_as_many_further_attempts_as_allowed(self, jobs: Jobs) -> None:
        failure = StepFailure(reason="Unavailable", message="store is away").model_dump_json()
        job = jobs(f"attempt(); tell({failure!r}); sys.exit(1)", retry=Retry(per_shard=2))
        to_the_end(job)
        view = job.view()
        assert (view.state, view.reason, view.failed) == (JobState.FAILED, "MaxFailedIndexesExceeded", frozenset({0}))
        assert jobs.attempts() == 3
        assert StepFailure.model_validate_json(view.message).reason == "Unavailable"
        assert job.failures[-1].message == "store is away"

    def test_failures_are_counted_per_index(self, jobs: Jobs) -> None:
        job = jobs("sys.exit(1 if attempt() < 3 else 0)", completions=4, retry=Retry(per_shard=2))
        to_the_end(job)
        assert job.view().state is JobState.COMPLETE
        assert [jobs.attempts(shard) for shard in range(4)] == [3, 3, 3, 3]
        assert len(job.failures) == 8

    def test_tolerated_failures_let_the_others_finish(self, jobs: Jobs) -> None:
        job = jobs(
            'tell(\'{"reason": "Bad", "message": "one"}\') if shard == 1 else None; sys.exit(shard == 1)',
            completions=4,
            parallelism=1,
            retry=Retry(per_shard=0, max_failed_shards=1),
        )
        to_the_end(job)
        view = job.view()
        assert (view.state, view.reason) == (JobState.FAILED, "FailedIndexes")
        assert (view.completed, view.failed) == (frozenset({0, 2, 3}), frozenset({1}))
        assert StepFailure.model_validate_json(view.message) == StepFailure(reason="Bad", message="one")

    def test_one_failed_index_too_many_ends_the_job_and_its_other_workers(self, jobs: Jobs) -> None:
        job = jobs(
            "note('started'); wait_for('started-1'); sys.exit(1) if shard == 0 else wait_for('never')",
            completions=2,
            retry=Retry(per_shard=0),
        )
        to_the_end(job)
        assert job.view().reason == "MaxFailedIndexesExceeded"
        until(job, lambda: not job.alive)
        assert (job.view().failed, len(job.failures)) == (frozenset({0}), 1)

    def test_a_worker_that_is_done_after_another_failed_for_good_does_not_hide_the_reason(self, jobs: Jobs) -> None:
        job = jobs(
            "signal.signal(signal.SIGTERM, lambda *_: (tell('{\"shard\": 1}'), sys.exit(0)))\n"
            "if shard == 1: note('started'); wait_for('never')\n"
            'wait_for(\'started-1\'); tell(\'{"reason": "Bad", "message": "first"}\'); sys.exit(2)',
            completions=2,
        )
        to_the_end(job)
        until(job, lambda: not job.alive)
        assert job.view().completed == {1}
        assert StepFailure.model_validate_json(job.view().message).reason == "Bad"

    @pytest.mark.parametrize("codes", [[2], [7, 9]])
    def test_an_exit_code_that_is_never_retried_ends_the_job_at_once(self, codes: list[int], jobs: Jobs) -> None:
        retry = Retry(per_shard=5, max_failed_shards=2, non_retriable_exit_codes=codes)
        job = jobs(f"attempt(); sys.exit({codes[-1]})", completions=3, parallelism=1, retry=retry)
        to_the_end(job)
        view = job.view()
        assert (view.state, view.reason, view.failed) == (JobState.FAILED, "PodFailurePolicy", frozenset({0}))
        assert [jobs.attempts(shard) for shard in range(3)] == [1, 0, 0]

    def test_a_prepare_step_that_is_never_retried_gives_its_own_reason(self, jobs: Jobs) -> None:
        job = jobs('tell(\'{"reason": "InvalidInput", "message": "m"}\'); sys.exit(2)', step=Step.PREPARE)
        to_the_end(job)
        assert job.view().reason == "InvalidInput"
        assert [(failure.shard, failure.exit_code) for failure in job.failures] == [(None, 2)]

    def test_an_exit_of_75_is_reported_and_not_counted(self, jobs: Jobs) -> None:
        job = jobs("sys.exit(75 if attempt() < 4 else 0)", retry=Retry(per_shard=0))
        to_the_end(job)
        assert job.view().state is JobState.COMPLETE
        assert [failure.exit_code for failure in job.failures] == [75, 75, 75]

    def test_an_exit_of_143_is_not_counted_whoever_asked_for_it(self, jobs: Jobs) -> None:
        job = jobs("sys.exit(143 if attempt() < 3 else 0)", retry=Retry(per_shard=0))
        to_the_end(job)
        assert job.view().state is JobState.COMPLETE

    def test_only_the_last_failures_are_kept(self, jobs: Jobs) -> None:
        job = jobs("sys.exit(75 if attempt() < 14 else 0)", retry=Retry(per_shard=0))
        to_the_end(job)
        assert len(job.failures) == 10

    @pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (11, "SIGSEGV"), (40, "signal 40")])
    def test_a_worker_that_a_signal_ends_has_failed_as_killed(self, number: int, name: str, jobs: Jobs) -> None:
        job = jobs(f"os.kill(os.getpid(), {number})", retry=Retry(per_shard=1))
        to_the_end(job)
        assert job.view().failed == {0}
        assert [(failure.exit_code, failure.reason) for failure in job.failures] == [(128 + number, "Killed")] * 2
        assert job.failures[0].message == f"the worker was ended by {name}"

    def test_a_signal_can_be_among_the_codes_that_are_never_retried(self, jobs: Jobs) -> None:
        retry = Retry(per_shard=5, non_retriable_exit_codes=[137])
        job = jobs("attempt(); os.kill(os.getpid(), signal.SIGKILL)", retry=retry)
        to_the_end(job)
        assert (jobs.attempts(), job.view().reason) == (1, "PodFailurePolicy")

    @pytest.mark.parametrize("left", ['b\'{"reason": "Cut o\'', "b'\\xff\\xfe'", "b''", "b'[1]'"])
    def test_a_message_that_cannot_be_read_gives_the_exit_code_instead(self, left: str, jobs: Jobs) -> None:
        job = jobs(
            f"pathlib.Path(os.environ['SHARDWISE_TERMINATION_LOG']).write_bytes({left}); sys.exit(3)",
            retry=Retry(per_shard=0),
        )
        to_the_end(job)
        assert [(failure.exit_code, failure.reason) for failure in job.failures] == [(3, "WorkerFailed")]
        assert "exit code 3" in job.failures[0].message

    def test_a_message_of_an_earlier_attempt_is_not_taken_for_a_later_one(self, jobs: Jobs) -> None:
        job = jobs(
            'n = attempt(); tell(\'{"reason": "Bad", "message": "m"}\') if n == 1 else None; sys.exit(1)',
            retry=Retry(per_shard=1),
        )
        to_the_end(job)
        assert [failure.reason for failure in job.failures] == ["Bad", "WorkerFailed"]

    def test_a_long_message_is_cut_to_what_a_status_holds(self, jobs: Jobs) -> None:
        job = jobs(
            'tell(\'{"reason": "Bad", "message": "\' + \'x\' * 5000 + \'"}\'); sys.exit(1)', retry=Retry(per_shard=0)
        )
        to_the_end(job)
        assert len(job.failures[0].message) == 1024


class TestBackoff:
    SCRIPT = "n = attempt(); (folder / f'time-{shard}-{n}').write_text(str(time.time())); sys.exit(n < 4)"

    def _gaps(self, jobs: Jobs) -> list[float]:
        times = [float((jobs.folder / f"time-0-{n}").read_text()) for n in range(1, 5)]
        return [after - before for before, after in pairwise(times)]

    def test_each_failure_doubles_the_pause_give_or_take_a_half(self, jobs: Jobs) -> None:
        to_the_end(jobs(self.SCRIPT, backoff_seconds=0.05))
        for number, gap in enumerate(self._gaps(jobs), start=1):
            assert gap >= 0.05 * 2**number / 2

    def test_another_index_runs_in_the_pause(self, jobs: Jobs) -> None:
        job = jobs("sys.exit(shard == 0 and attempt() < 2)", completions=3, parallelism=1, backoff_seconds=10)
        until(job, lambda: job.view().completed == {1, 2})
        assert jobs.attempts() == 1
        assert job.view().state is JobState.RUNNING


class TestSuspension:
    def test_workers_are_asked_to_end_and_have_not_failed(self, jobs: Jobs) -> None:
        job = jobs(GRACEFUL, completions=2, retry=Retry(per_shard=0))
        until(job, exists(jobs, "started-0", "started-1"))
        job.suspend()
        assert job.view().state is JobState.SUSPENDED
        until(job, lambda: not job.alive)
        view = job.view()
        assert exists(jobs, "stopped-0", "stopped-1")()
        assert (view.state, view.active, view.failed, job.failures) == (JobState.SUSPENDED, 0, frozenset(), [])

    def test_a_suspended_job_starts_nothing(self, jobs: Jobs) -> None:
        job = jobs(GRACEFUL, completions=3, parallelism=1)
        job.suspend()
        for _ in range(20):
            job.tick()
        assert job.pids() == []
        assert jobs.attempts() == 0

    def test_a_resumed_job_goes_on_with_what_was_left(self, jobs: Jobs) -> None:
        script = f"if shard == 0: sys.exit(0 if attempt() == 1 else 1)\n{GRACEFUL}"
        job = jobs(script, completions=3, retry=Retry(per_shard=0))
        until(job, lambda: exists(jobs, "started-1", "started-2")() and job.view().completed == {0})
        job.suspend()
        until(job, lambda: not job.alive)
        (jobs.folder / "go").touch()
        job.resume()
        assert job.view().state is JobState.RUNNING
        to_the_end(job)
        assert job.view().state is JobState.COMPLETE
        assert [jobs.attempts(shard) for shard in range(3)] == [1, 2, 2]

    def test_a_worker_that_ends_only_after_its_job_was_resumed_has_not_failed_either(self, jobs: Jobs) -> None:
        (jobs.folder / "hold").touch()
        job = jobs(GRACEFUL, retry=Retry(per_shard=0))
        until(job, exists(jobs, "started-0"))
        job.suspend()
        until(job, exists(jobs, "stopped-0"))
        job.resume()
        job.tick()
        assert job.view().active == 1
        (jobs.folder / "go").touch()
        (jobs.folder / "hold").unlink()
        to_the_end(job)
        assert (job.view().state, job.failures) == (JobState.COMPLETE, [])
        assert jobs.attempts() == 2

    def test_an_index_that_is_done_while_the_job_is_suspended_is_done(self, jobs: Jobs) -> None:
        job = jobs("signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); note('started'); wait_for('never')")
        until(job, exists(jobs, "started-0"))
        job.suspend()
        until(job, lambda: not job.alive)
        assert (job.view().state, job.view().completed) == (JobState.SUSPENDED, frozenset({0}))
        job.resume()
        to_the_end(job)
        assert job.view().state is JobState.COMPLETE

    def test_a_worker_that_failed_by_itself_before_it_could_be_asked_has_failed(self, jobs: Jobs) -> None:
        job = jobs("note('started'); sys.exit(2)")
        job.tick()
        (pid,) = job.pids()
        _wait_for_zombie(pid)
        job.suspend()
        assert not job.alive
        assert (job.view().state, job.view().failed) == (JobState.FAILED, frozenset({0}))

    @pytest.mark.parametrize("before", ["resume", "suspend", "stop"])
    def test_a_job_that_is_over_stays_over(self, before: str, jobs: Jobs) -> None:
        job = jobs("pass")
        to_the_end(job)
        view = job.view()
        getattr(job, before)()
        job.tick()
        assert job.view() == view


def _wait_for_zombie(pid: int) -> None:
    end = time.monotonic() + PATIENT_SECONDS
    while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.005)


class TestStop:
    @pytest.mark.parametrize("suspended", [False, True])
    def test_a_stopped_job_has_failed_and_asks_its_workers_to_end(self, suspended: bool, jobs: Jobs) -> None:
        job = jobs(GRACEFUL, completions=4, parallelism=2)
        until(job, exists(jobs, "started-0", "started-1"))
        if suspended:
            job.suspend()
        job.stop()
        assert (job.view().state, job.view().reason) == (JobState.FAILED, "Stopped")
        until(job, lambda: not job.alive)
        for _ in range(10):
            job.tick()
        assert (job.pids(), job.failures, job.view().failed) == ([], [], frozenset())

    def test_a_kill_ends_workers_that_do_not_listen_and_waits_for_them(self, jobs: Jobs) -> None:
        deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN); note('started'); wait_for('never')"
        job = jobs(deaf, completions=2)
        until(job, exists(jobs, "started-0", "started-1"))
        pids = job.pids()
        job.suspend()
        job.kill()
        assert not any(_runs(pid) for pid in pids)
        assert not job.alive
        assert job.failures == []

    def test_workers_are_out_of_reach_of_a_terminal_s_ctrl_c(self, jobs: Jobs) -> None:
        job = jobs("note('started'); wait_for('never')")
        until(job, exists(jobs, "started-0"))
        (pid,) = job.pids()
        assert os.getpgid(pid) == os.getsid(pid) == pid
        os.kill(pid, signal.SIGKILL)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_pids_are_those_of_the_workers(jobs: Jobs) -> None:
    job = jobs("note('started'); wait_for('go')", completions=2)
    until(job, exists(jobs, "started-0", "started-1"))
    noted: Sequence[int] = [int((jobs.folder / f"started-{shard}").read_text()) for shard in range(2)]
    assert sorted(job.pids()) == sorted(noted)
    (jobs.folder / "go").touch()
    to_the_end(job)
    assert job.pids() == []
