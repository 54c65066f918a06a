"""The client commands against a real API server: runs are created, followed, stopped and removed as a person would.

There is no operator here: the tests write the statuses themselves, so that every state can be had at will.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from tests.support.client import (
    INGEST,
    RESULT,
    Shell,
    complete,
    condition,
    failed,
    running,
    shell,
    sheltered,
    worker_pod,
)
from tests.support.kube import Cluster, eventually
from tests.support.tcp_line import TcpLine

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def corner(cluster: Cluster) -> Iterator[Cluster]:
    cluster.kubectl("apply", "--server-side", f"--filename={REPOSITORY / 'crds'}")
    cluster.kubectl("wait", "--for=condition=Established", f"--filename={REPOSITORY / 'crds'}", "--timeout=30s")
    with cluster.own_namespace("client") as namespace, sheltered(namespace):
        yield namespace


@pytest.fixture
def person(corner: Cluster, tmp_path: Path) -> Iterator[Shell]:
    yield shell(corner, tmp_path)
    corner.kubectl("delete", "trainingruns.shardwise.dev,ingestruns.shardwise.dev", "--all")
    corner.kubectl("delete", "pods", "--all", "--force", "--grace-period=0")


def test_submit_creates_the_run_with_what_the_manifest_says_and_defaults_of_the_api_server(person: Shell) -> None:
    done = person(f"submit {person.manifest()}")

    run = person.corner.get("trun", "words", "--show-managed-fields")
    (manager,) = run["metadata"]["managedFields"]
    assert (done.code, done.out) == (0, "trun/words created\n")
    assert (manager["manager"], manager["operation"]) == ("shardwise", "Apply")
    assert run["spec"]["suspend"] is False
    assert "f:suspend" not in manager["fieldsV1"]["f:spec"]


def test_submit_again_changes_nothing_and_says_so(person: Shell) -> None:
    person.submit()

    assert person(f"submit {person.manifest()}").out == "trun/words unchanged\n"


def test_submit_may_change_parallelism_of_a_run_that_is_there(person: Shell) -> None:
    person.submit()

    assert person(f"submit {person.manifest('sharding.parallelism=4')}").out == "trun/words changed\n"


def test_submit_of_a_changed_run_is_refused_field_by_field_with_a_way_out(person: Shell) -> None:
    person.submit()

    done = person(f"submit {person.manifest('sharding.shards=4', 'blockSize=7')}")

    assert done.code == 1
    assert "spec.blockSize: blockSize is immutable: make a run with another name" in done.err
    assert "spec.sharding: of sharding only parallelism may change" in done.err
    assert "shardwise delete trun/words" in done.err


def test_submit_of_a_finished_run_says_that_nothing_was_started(person: Shell) -> None:
    person.submit()
    person.status("words", complete())

    done = person(f"submit {person.manifest()}")

    assert done.code == 1
    assert "trun/words is Complete already, and nothing was started" in done.err


def test_a_dry_run_by_the_server_is_judged_there_and_creates_nothing(person: Shell) -> None:
    good = person(f"submit {person.manifest()} --dry-run=server")
    # The client's own rules know nothing of volumes; the API server's schema does not either: a bad name does.
    bad = person(f"submit {person.manifest('metadata.labels={a: -}')} --dry-run=server")

    assert (good.code, good.out) == (0, "trun/words created (dry run by the server)\n")
    assert bad.code == 2
    assert "metadata.labels" in bad.err
    assert person("get").err == f"no runs in namespace {person.corner.namespace}\n"


def test_submit_to_a_namespace_that_is_not_there_names_the_way_out(person: Shell) -> None:
    done = person(f"submit {person.manifest()} -n nowhere")

    assert done.code == 1
    assert "there is no namespace nowhere: kubectl create namespace nowhere" in done.err


def test_submit_with_watch_follows_to_the_end_and_shows_the_result(person: Shell) -> None:
    with person.started(f"submit {person.manifest()} --watch") as command:
        command.line_with("trun/words Pending")
        person.status("words", running(40))
        assert command.line_with("40%") == "trun/words Running 40% 40/100 shards 3/8 12.5/s ETA 3m20s"
        person.status("words", complete())
        done = command.end()

    assert done.code == 0
    assert RESULT["digest"] in done.out


def test_submit_with_wait_ends_with_1_when_the_run_fails_and_says_why(person: Shell) -> None:
    with person.started(f"submit {person.manifest()} --wait") as command:
        command.line_with("created")
        person.status("words", failed())
        done = command.end()

    assert done.code == 1
    assert "trun/words Failed (StoreUnavailable: nobody answers)" in done.err


def test_ctrl_c_leaves_the_run_alone_and_says_how_to_look_again(person: Shell) -> None:
    with person.started(f"submit {person.manifest()} --watch") as command:
        command.line_with("trun/words Pending")
        command.process.send_signal(signal.SIGINT)
        done = command.end()

    assert done.code == 130
    assert "goes on in the cluster. Look again: shardwise watch trun/words" in done.err
    assert person.corner.get("trun", "words")["spec"]["suspend"] is False


def test_get_shows_runs_of_both_kinds_in_a_table(person: Shell) -> None:
    person.submit()
    person.submit(text=INGEST, name="chunks")
    person.status("words", running(40))

    headings, *rows = person("get").out.splitlines()

    assert headings.split() == ["KIND", "NAME", "PHASE", "PROGRESS", "SHARDS", "RATE", "ETA", "AGE"]
    assert [row.split()[:7] for row in sorted(rows)] == [
        ["irun", "chunks", "Pending", "-", "0/1", "-", "-"],
        ["trun", "words", "Running", "40%", "3/8", "12.5/s", "3m20s"],
    ]
    everywhere = person("get -A").out
    assert person.corner.namespace in everywhere
    assert everywhere.startswith("NAMESPACE")


def test_get_of_one_run_shows_conditions_failures_and_what_is_wrong(person: Shell) -> None:
    person.submit()
    person.status("words", failed())

    page = person("get words").out

    for told in ("StoreUnavailable: nobody answers", "WorkerFailed", "it broke", "Accepted", "3 done, 2 active"):
        assert told in page


def test_get_speaks_to_programs_too(person: Shell) -> None:
    person.submit()
    person.submit(text=INGEST, name="chunks")

    assert sorted(person("get -o name").out.split()) == [
        "ingestrun.shardwise.dev/chunks",
        "trainingrun.shardwise.dev/words",
    ]
    one = json.loads(person("get words -o json").out)
    assert (one["kind"], one["metadata"]["name"]) == ("TrainingRun", "words")
    assert {item["kind"] for item in yaml.safe_load(person("get -o yaml").out)["items"]} == {"TrainingRun", "IngestRun"}


def test_a_name_of_both_kinds_has_to_be_said_with_its_kind(person: Shell) -> None:
    person.submit()
    person.submit(text=INGEST)

    done = person("get words")

    assert done.code == 1
    assert "words is a run of either kind" in done.err
    assert "say trun/words or irun/words" in done.err
    assert "IngestRun words" in person("get irun/words").out


def test_a_wrong_name_is_answered_with_the_near_one(person: Shell) -> None:
    person.submit()

    done = person("result wrods")

    assert done.code == 1
    assert "did you mean words?" in done.err


def test_a_run_of_another_namespace_is_pointed_to(person: Shell) -> None:
    # A name that nobody else's tests have.
    name = person.corner.namespace
    person.submit(name=name)

    assert f"but in {person.corner.namespace}: add -n {person.corner.namespace}" in person(f"get {name} -n default").err


def test_result_of_an_unfinished_run_says_its_phase(person: Shell) -> None:
    person.submit()
    person.status("words", running(40))

    done = person("result words")

    assert (done.code, done.out) == (1, "")
    assert "trun/words has no result: it is Running, 40%" in done.err


def test_result_gives_digest_and_metrics_to_people_and_programs(person: Shell) -> None:
    person.submit()
    person.status("words", complete())

    assert person("result words --digest").out == f"{RESULT['digest']}\n"
    assert json.loads(person("result words -o json").out) == {**RESULT, "metrics": {"samples_processed": 100}}
    page = person("result trun/words").out
    assert "ExactlyOnce" in page
    assert "samples_processed" in page


def test_suspend_and_resume_may_be_said_twice(person: Shell) -> None:
    person.submit()

    said = [person(f"{command} words") for command in ("suspend", "suspend", "resume", "resume")]

    assert [done.code for done in said] == [0, 0, 0, 0]
    assert "suspended: its workers finish their blocks" in said[0].out
    assert "is suspended already" in said[1].out
    assert "resumed: it goes on where it was" in said[2].out
    assert "is not suspended" in said[3].out
    assert person.corner.get("trun", "words")["metadata"]["generation"] == 3


def test_suspend_of_a_finished_run_says_that_there_is_nothing_to_stop(person: Shell) -> None:
    person.submit()
    person.status("words", complete())

    done = person("suspend words")

    assert done.code == 1
    assert "is Complete: there is nothing to suspend" in done.err


def test_delete_waits_until_the_pods_are_gone_too(person: Shell) -> None:
    uid = person.submit()
    owner = {"apiVersion": "shardwise.dev/v1alpha1", "kind": "TrainingRun", "name": "words", "uid": uid}
    pod = worker_pod("words-0", run="words", uid=uid, shard=0, script="sleep 600")
    pod["metadata"]["ownerReferences"] = [owner]
    person.corner.apply(pod)

    done = person("delete words --wait")

    assert done.code == 0
    assert done.out.splitlines() == ["trun/words is being deleted", "trun/words is gone"]
    assert person.corner.get("pods")["items"] == []


def test_watch_of_named_runs_ends_when_all_have_ended(person: Shell) -> None:
    person.submit()
    person.submit(name="letters")
    person.status("letters", complete())

    with person.started("watch words letters") as command:
        command.line_with("trun/words Pending")
        person.status("words", running(50, items={"total": 100, "done": 45, "failed": 5, "skipped": 0}))
        assert "failed 5" in command.line_with("50%")
        person.status("words", failed())
        assert "(StoreUnavailable: nobody answers)" in command.line_with("Failed")
        done = command.end()

    assert done.code == 1


def test_watch_of_all_notices_new_and_deleted_runs(person: Shell) -> None:
    with person.started("watch") as command:
        command.line_with("no runs yet")
        person.submit()
        command.line_with("trun/words Pending")
        person.status(
            "words", running(20, conditions=[condition("PodsReady", "False", "ImagePullBackOff", "no image")])
        )
        assert "(ImagePullBackOff: no image)" in command.line_with("20%")
        person("delete words")
        command.line_with("trun/words deleted")
        command.process.send_signal(signal.SIGINT)
        done = command.end()

    assert done.code == 130


def test_watch_and_logs_go_on_after_a_cut_line_and_miss_nothing(person: Shell, tmp_path: Path) -> None:
    server = urlsplit(str(yaml.safe_load(person.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]))
    uid = person.submit()
    script = f"echo one; {_GO}; echo two"
    person.corner.apply(worker_pod("words-0", run="words", uid=uid, shard=0, script=script))
    person.corner.kubectl("wait", "--for=condition=Ready", "pod/words-0", "--timeout=60s")
    with TcpLine(str(server.hostname), server.port or 443) as line:
        away = tmp_path / "away"
        away.mkdir()
        there = {"server": f"https://127.0.0.1:{line.port}", "tls-server-name": str(server.hostname)}
        distant = shell(person.corner, away, **there)
        with distant.started("watch words") as watching, distant.started("logs words --shard 0 -f") as reading:
            watching.line_with("trun/words Pending")
            reading.line_with("one")
            line.cut()
            watching.line_with("connection lost, trying again")
            person.status("words", running(60))
            watching.line_with("60%")
            _let_go(person, "words-0")
            reading.line_with("two")
            person.status("words", complete())
            watched, read = watching.end(), reading.end()

    assert (watched.code, read.code) == (0, 0)
    assert "one" not in read.out


_GO = "while [ ! -e /tmp/go ]; do sleep 0.1; done"
"""What a pod runs that says no more until it is told to."""


def _let_go(person: Shell, pod: str) -> None:
    # The pod may end before `touch` does, and take it along: what follows shows that it was told.
    person.corner.try_kubectl("exec", pod, "--", "touch", "/tmp/go")


def test_logs_of_several_shards_are_merged_by_time_and_marked(person: Shell) -> None:
    uid = person.submit()
    person.corner.apply(
        worker_pod("words-prepare-0", run="words", uid=uid, shard=0, script="echo looked", step="prepare"),
        worker_pod("words-0", run="words", uid=uid, shard=0, script=f"echo first; {_GO}; echo last"),
        worker_pod("words-1", run="words", uid=uid, shard=1, script=f"{_GO}; echo between"),
        worker_pod("other-1", run="words", uid="another", shard=1, script="echo of an earlier run of that name"),
    )
    person.corner.kubectl("wait", "--for=condition=Ready", "pod/words-0", "pod/words-1", "--timeout=90s")
    for shard in ("words-1", "words-0"):
        _let_go(person, shard)
        person.corner.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{shard}", "--timeout=90s")
    person.corner.kubectl(
        "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod", "--selector=shardwise.dev/run", "--timeout=90s"
    )

    merged = person("logs words").out.splitlines()

    assert sorted(merged) == ["[prepare] looked", "[shard 0] first", "[shard 0] last", "[shard 1] between"]
    assert merged.index("[shard 0] first") < merged.index("[shard 0] last")
    assert person("logs words --shard 1").out == "between\n"
    assert person("logs words --shard 0-1 --tail 1").out.splitlines()[-1] == "[shard 0] last"
    assert person("logs words --step prepare").out == "looked\n"


def test_logs_follow_a_shard_over_its_attempts_until_the_run_ends(person: Shell) -> None:
    uid = person.submit()
    with person.started("logs words -f") as command:
        person.corner.apply(worker_pod("words-3-a", run="words", uid=uid, shard=3, script="echo broken; exit 1"))
        assert command.line_with("broken") == "[shard 3] broken"
        person.corner.apply(worker_pod("words-3-b", run="words", uid=uid, shard=3, script="echo mended"))
        assert command.line_with("mended") == "[shard 3] mended"
        person.status("words", complete())
        done = command.end()

    assert done.code == 0
    assert "[shard 3] next attempt: words-3-b" in done.err
    assert "trun/words is Complete" in done.err
    assert person("logs words --shard 3").out == "mended\n"
    assert person("logs words --shard 3 --previous").out == "broken\n"


def test_logs_of_a_worker_that_cannot_start_say_what_it_waits_for(person: Shell) -> None:
    uid = person.submit()
    pod = worker_pod("words-0", run="words", uid=uid, shard=0, script="echo never")
    pod["spec"]["containers"][0] |= {"image": "shardwise.test/nothing:1", "imagePullPolicy": "Never"}
    person.corner.apply(pod)

    def waits() -> bool:
        return "ErrImageNeverPull" in person("logs words").err

    eventually(waits, what="the reason")
    assert person("logs words").code == 1


def test_who_may_not_is_told_what_and_how_to_find_out(person: Shell, tmp_path: Path) -> None:
    person.corner.kubectl("create", "serviceaccount", "stranger")
    token = person.corner.kubectl("create", "token", "stranger").strip()
    kubeconfig = yaml.safe_load(person.kubeconfig.read_text())
    kubeconfig["users"][0]["user"] = {"token": token}
    stranger = tmp_path / "stranger"
    stranger.write_text(yaml.safe_dump(kubeconfig))

    done = person(f"get --kubeconfig {stranger}")

    assert done.code == 1
    assert "not allowed to list trainingruns.shardwise.dev" in done.err
    assert f"kubectl auth can-i list trainingruns.shardwise.dev -n {person.corner.namespace}" in done.err


def test_an_expired_login_is_told_as_such(person: Shell, tmp_path: Path) -> None:
    kubeconfig = yaml.safe_load(person.kubeconfig.read_text())
    kubeconfig["users"][0]["user"] = {"token": "of yesterday"}
    path = tmp_path / "expired"
    path.write_text(yaml.safe_dump(kubeconfig))

    done = person(f"get --kubeconfig {path}")

    assert done.code == 1
    assert "doesn't accept the credentials" in done.err


def test_names_of_runs_complete_in_the_shell(person: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    person.submit()
    monkeypatch.setenv("_SHARDWISE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "shardwise result wo")
    monkeypatch.setenv("COMP_CWORD", "2")

    assert person("").out == "plain,words\n"


def test_logs_end_when_nobody_reads_them_any_more(person: Shell) -> None:
    uid = person.submit()
    script = "while true; do echo again; sleep 0.2; done"
    person.corner.apply(worker_pod("words-0", run="words", uid=uid, shard=0, script=script))

    with person.started("logs words -f") as command:
        command.line_with("again")
        assert command.process.stdout is not None
        command.process.stdout.close()
        assert command.process.wait(60) == 1


def test_nothing_of_the_credentials_stays_on_disk(
    person: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))

    person("get")

    assert list(temporary.iterdir()) == []
