"""Rules are judged as an API server would: same text, defaults filled in, what can't be evaluated is refused."""

from __future__ import annotations

import subprocess
import sys
from typing import ClassVar

import pytest
from pydantic import Field

from shardwise_api.base import ApiModel, Rule
from shardwise_api.common import Sharding, Strategy
from shardwise_api.manifest import parse_manifest
from shardwise_api.rules import Problem, alias_of, check, join
from tests.support import manifests


class Leaf(ApiModel):
    small_number: int = 1
    word: str | None = None

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(expression="self.smallNumber < 10", message="too big", field="smallNumber"),
        Rule(expression="has(self.word) || self.smallNumber != 7", message="seven needs a word"),
        Rule(expression="self == oldSelf", message="immutable", transition=True),
    )


class Tree(ApiModel):
    leaves: list[Leaf] = Field(default_factory=list)
    the_leaf: Leaf | None = None
    names: list[str] = Field(default_factory=list)

    rules: ClassVar[tuple[Rule, ...]] = (Rule(expression="self.leaves.size() < 3", message="too many", field="leaves"),)


def found(tree: ApiModel, *, at: str = "") -> list[str]:
    return [str(problem) for problem in check(tree, at=at)]


def test_a_model_that_keeps_its_rules_has_no_problems() -> None:
    assert check(Tree(leaves=[Leaf()], the_leaf=Leaf(), names=["a"])) == []


def test_a_problem_names_the_field_in_manifest_spelling() -> None:
    tree = Tree(leaves=[Leaf(), Leaf(small_number=10)], the_leaf=Leaf(small_number=11))

    assert found(tree) == ["leaves[1].smallNumber: too big", "theLeaf.smallNumber: too big"]


def test_a_rule_without_a_field_blames_the_model() -> None:
    assert found(Tree(the_leaf=Leaf(small_number=7))) == ["theLeaf: seven needs a word"]


def test_a_rule_of_the_root_without_a_field_has_no_path() -> None:
    assert found(Leaf(small_number=7)) == ["seven needs a word"]


def test_the_path_of_a_part_is_put_in_front() -> None:
    assert found(Tree(leaves=[Leaf(small_number=10)]), at="spec.tree") == [
        "spec.tree.leaves[0].smallNumber: too big",
    ]


def test_outer_and_inner_problems_are_all_told() -> None:
    assert found(Tree(leaves=[Leaf(small_number=10)] * 3)) == [
        "leaves: too many",
        *(f"leaves[{number}].smallNumber: too big" for number in range(3)),
    ]


def test_a_field_that_is_none_is_absent_to_a_rule() -> None:
    assert found(Leaf(small_number=7, word=None)) == ["seven needs a word"]
    assert found(Leaf(small_number=7, word="")) == []


def test_a_default_is_there_for_a_rule() -> None:
    class Strict(Leaf):
        rules: ClassVar[tuple[Rule, ...]] = (Rule(expression="self.smallNumber == 1", message="no default"),)

    assert found(Strict()) == []


def test_an_enumeration_is_its_text() -> None:
    assert found(Sharding(strategy=Strategy.DYNAMIC, shards=2)) == [
        "parallelism: Dynamic needs parallelism, and more shards than that: a free worker takes the next shard"
    ]


@pytest.mark.parametrize("expression", ["self.nothing == 1", "noSuchFunction(self)", "self.word > 1", "'text'"])
def test_what_cannot_be_evaluated_is_refused(expression: str) -> None:
    class Broken(Leaf):
        rules: ClassVar[tuple[Rule, ...]] = (Rule(expression=expression, message="broken"),)

    (problem,) = check(Broken(word="a"))

    assert problem.message.startswith("broken")


@pytest.mark.parametrize("text", manifests.ALL.values(), ids=manifests.ALL)
def test_every_rule_of_a_valid_manifest_holds(text: str) -> None:
    assert check(parse_manifest(text, name="run.yaml")) == []


def test_paths_put_in_brackets_what_a_dot_would_not_set_off() -> None:
    assert join(join("worker.labels", "a.b/c"), 0) == "worker.labels[a.b/c][0]"
    assert join("", "spec") == "spec"
    assert alias_of(Leaf, "small_number") == "smallNumber"


def test_a_problem_without_a_path_is_its_message() -> None:
    assert str(Problem("", "wrong")) == "wrong"


def test_the_expression_language_is_loaded_only_when_a_rule_is_judged() -> None:
    code = "import sys, shardwise_api.manifest; sys.exit('cel' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
