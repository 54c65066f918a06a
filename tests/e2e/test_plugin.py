"""An engine that an image brings: the word count of docs/write-an-engine.md as a run of both nodes."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from shardwise_api.status import ConditionType
from tests.e2e.installed import Installed
from tests.support.expected import CORPUS
from tests.support.word_count import MANIFEST, counted
from tests.support.workspace import DATA, Submitted, Workspace, told

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture
def words(workspace: Workspace, shardwise: Installed) -> dict[str, Any]:
    """The page's manifest, for the example corpus on the volume."""
    manifest: dict[str, Any] = yaml.safe_load(MANIFEST)
    volume = workspace.manifest("words")
    manifest["metadata"] = volume["metadata"]
    spec = manifest["spec"]
    spec["output"] = volume["spec"]["output"]
    spec["worker"] = {**volume["spec"]["worker"], "image": shardwise.images["wordcount"]}
    spec["engine"]["plugin"]["spec"]["files"] = [f"{DATA}/{CORPUS.name}"]
    return manifest


def test_the_word_count_of_the_page_counts_every_word_once(workspace: Workspace, words: dict[str, Any]) -> None:
    run = workspace.apply(words)
    run.until(lambda status: status.shards.active or status.finished, what="workers run")
    _lose_a_worker(run)

    status = run.complete()

    text = CORPUS.read_text(encoding="utf-8")
    assert (workspace.folder / "words" / "words.tsv").read_text(encoding="utf-8") == counted(text)
    assert status.items.done == text.count("\n")
    assert [metric.value for metric in status.metrics if metric.name == "words"] == [len(text.split())]


def test_a_plugins_mistakes_are_told_by_their_fields(workspace: Workspace, words: dict[str, Any]) -> None:
    words["spec"]["engine"]["plugin"]["spec"] = {"files": ["text.txt"], "file": 1}

    status = workspace.apply(words).finish()

    failed = status.condition(ConditionType.FAILED)
    assert failed is not None, told(status)
    assert failed.reason == "InvalidSpec"
    assert "spec.engine.plugin.spec.file: unknown field; did you mean files?" in failed.message
    assert "spec.engine.plugin.spec.files[0]: a relative path means nothing in a pod" in failed.message


def _lose_a_worker(run: Submitted) -> None:
    for pod in run.pods("shardwise.dev/step=work")[:1]:
        run.cluster.try_kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force")
