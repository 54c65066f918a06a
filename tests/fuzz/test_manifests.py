"""Whatever a manifest holds, it is a run or a list of problems, each in one line."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shardwise_api import yaml_reader
from shardwise_api.manifest import InvalidManifest, parse_manifest
from tests.support import manifests
from tests.support.examples import examples

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["sqlite:///a#b?c%", "file://", "s3://", "::", "~", "\0", "-1", "1e999", "²", "postgresql://u:p@h"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
TAGS = st.sampled_from(
    ["bool", "int", "float", "null", "timestamp", "binary", "omap", "pairs", "set", "str", "seq", "map"]
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of each value within a document."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


def judged(text: str, *overrides: str) -> None:
    """Parse a manifest; whatever is wrong must be said as problems."""
    try:
        run = parse_manifest(text, name="run.yaml", overrides=overrides)
    except InvalidManifest as error:
        problems = error.problems
    else:
        json.dumps(run.resource_document())
        return
    assert problems
    assert all(str(problem).strip() for problem in problems)


@given(text=st.text())
@examples(60)
def test_any_text(text: str) -> None:
    judged(text)


@given(tag=TAGS, value=st.text(max_size=8))
@examples(80)
def test_any_tag_before_any_value(tag: str, value: str) -> None:
    yaml_reader.read(f"a: !!{tag} {value}", name="run.yaml")
    judged(f"kind: !!{tag} {value}")


@pytest.mark.parametrize(
    "text", ["a: !!bool x", "a: !!timestamp x", "!!binary \xe9", "a: !!int ''", "a: !!float x", "? [a]\n: b"]
)
def test_tags_that_do_not_fit(text: str) -> None:
    _, problems = yaml_reader.read(text, name="run.yaml")
    assert len(problems) == 1


@pytest.mark.parametrize("name", manifests.ALL)
def test_any_value_at_any_place(name: str) -> None:
    document = yaml.safe_load(manifests.ALL[name])
    every = places(document)

    @given(path=st.sampled_from(every), value=VALUES)
    @examples(60)
    def changed(path: tuple[Any, ...], value: Any) -> None:
        copy = yaml.safe_load(manifests.ALL[name])
        here = copy
        for key in path[:-1]:
            here = here[key]
        here[path[-1]] = value
        judged(yaml.safe_dump(copy, allow_unicode=True))

    changed()


@given(path=st.text(alphabet="abkspec.[]0129²=\\-", max_size=12), value=st.text(max_size=8))
@examples(80)
def test_any_override(path: str, value: str) -> None:
    judged(manifests.KATO, f"{path}={value}", path)
