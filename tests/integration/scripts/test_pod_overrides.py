"""Scripts with pods of their own: the first step says which they are, and a worker of theirs finds its script."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shardwise_api.wire import MAX_TERMINATION_MESSAGE_BYTES, Environment, Step
from tests.support import suites
from tests.support.suite_folder import suite as local_suite
from tests.support.suite_pods import SuitePods, new_suite, prepared

LARGE = {"limits": {"memory": "8Gi"}}


def override(*ids: str) -> dict[str, object]:
    return {"ids": [*ids], "resources": LARGE}


def suite(folder: Path, *overrides: dict[str, object], **settings: object) -> SuitePods:
    return new_suite(folder, podOverrides=[*overrides], **settings)


def parts(suite: SuitePods) -> list[str]:
    assert suite.prepared is not None
    return suite.prepared.parts or []


def test_the_first_step_says_which_indexes_an_entry_means_by_id_in_any_case(tmp_path: Path) -> None:
    found = suite(tmp_path, override("TRAIN_OK", "train_bad"), override("train_flaky"))

    prepared(found, "bad", "flaky", "noisy", "ok")

    assert [found.index(f"train_{name}") for name in ("bad", "flaky", "noisy", "ok")] == [0, 1, 2, 3]
    assert parts(found) == ["0,3", "1"]


def test_an_alias_means_nobody_as_it_may_mean_another_one_tomorrow(tmp_path: Path) -> None:
    job = {"id": "special", "name": "Special", "script": "train_ok.py", "output": "special"}
    found = suite(tmp_path, override("train_ok"), jobs=[job])
    suites.plant(found.tree, "ok")
    ended = found.prepare()
    assert (ended.code, ended.failure.reason) == (2, "InvalidSpec"), ended
    assert "no job has the id 'train_ok'" in ended.failure.message


def test_of_scripts_that_were_not_chosen_it_says_nothing(tmp_path: Path) -> None:
    found = suite(tmp_path, override("train_bad"), override("train_ok", "train_bad"), exclude=["train_bad"])
    prepared(found, "bad", "noisy", "ok")
    assert parts(found) == ["", "1"]


def test_what_was_frozen_keeps_its_indexes(tmp_path: Path) -> None:
    found = suite(tmp_path, override("train_ok"))
    prepared(found, "bad", "ok")
    (found.tree / "train_aaa.py").write_text("print('new')")
    (found.tree / "train_ok.py").unlink()

    assert found.prepare().code == 0

    assert parts(found) == ["1"]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (
            [override("train_ok"), override("train_okay")],
            "spec.engine.scripts: podOverrides[1].ids: no job has the id 'train_okay'; did you mean train_ok?; known",
        ),
        (
            [override("train_ok"), override("TRAIN_OK")],
            "spec.engine.scripts.podOverrides[1].ids: train_ok is in podOverrides[0] too: name it in one only",
        ),
    ],
)
def test_a_script_that_is_not_there_or_named_twice_is_told(
    tmp_path: Path, overrides: list[dict[str, object]], says: str
) -> None:
    found = suite(tmp_path, *overrides)
    suites.plant(found.tree, "ok")

    ended = found.prepare()

    assert (ended.code, ended.failure.reason) == (2, "InvalidSpec"), ended
    assert says in ended.failure.message
    assert not [*found.output.glob("records/*/suite.json")], "frozen all the same"


def test_a_message_with_as_many_as_there_can_be_has_room(tmp_path: Path) -> None:
    # Every second one, so that no two are an interval.
    overrides = [override(*(f"train_{50 * n + i:05d}0" for i in range(50))) for n in range(8)]
    found = suite(tmp_path, *overrides)
    for number in range(400):
        for digit in (0, 1):
            (found.tree / f"train_{number:05d}{digit}.py").touch()

    ended = found.prepare()

    assert ended.code == 0, ended
    assert len(ended.message.encode()) <= MAX_TERMINATION_MESSAGE_BYTES
    assert found.prepared is not None
    assert len(found.prepared.details["ids"]) > 10
    assert sum(len(text.split(",")) for text in parts(found)) == 400


def test_a_worker_counts_its_index_in_the_shards_of_its_job(tmp_path: Path) -> None:
    found = prepared(suite(tmp_path, override("train_no_options", "train_ok")), "bad", "no_options", "ok")
    found.environment = {**found.environment, Environment.SHARDS: parts(found)[0]}

    ended = found.run(Step.WORK, shard=1)

    assert ended.code == 0, ended
    assert json.loads(ended.message)["shard"] == 2
    assert found.said_of("train_ok")["status"] == "SUCCESS"
    assert [found.said_of(id)["status"] for id in ("train_bad", "train_no_options")] == ["PENDING", "PENDING"]


def test_on_one_machine_they_change_nothing_but_are_looked_at(tmp_path: Path) -> None:
    plain = local_suite(tmp_path / "plain", "ok", "no_options")
    shaped = local_suite(tmp_path / "shaped", "ok", "no_options", podOverrides=[override("train_ok")])
    wrong = local_suite(tmp_path / "wrong", "ok", podOverrides=[override("train_okay")])

    digests = {folder.run().status["result"]["digest"] for folder in (plain, shaped)}
    refused = wrong.run()

    shown = shaped.command("plan", str(shaped.write()))

    assert len(digests) == 1
    assert "pod on a cluster" in shown.out
    (line,) = [line for line in shown.out.splitlines() if "podOverrides[0]" in line]
    assert "train_ok" in line
    assert "podOverrides" not in plain.command("plan", str(plain.write())).out
    assert refused.code == 2
    assert "did you mean train_ok?" in refused.err
