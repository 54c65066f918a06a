"""YAML is read as kubectl reads it, and what kubectl lets through by accident is refused with a place."""

from __future__ import annotations

import pytest

from tests.support.manifests import INGEST, KATO, complaints, kato


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [1", "run.yaml, line 1, column 6: not valid YAML: while parsing a flow sequence"),
        ("a: 1\n b: 2", "run.yaml, line 2, column 3: not valid YAML: mapping values are not allowed here"),
        ("a: *b", "run.yaml, line 1, column 4: not valid YAML: found undefined alias 'b'"),
        ("a: !!python/name:os.system x", "run.yaml, line 1, column 4: not valid YAML: could not determine"),
        ("a: '\x01'", "run.yaml: not valid YAML: unacceptable character #x0001"),
        ("a: !!int x", "run.yaml: not valid YAML: invalid literal"),
        ("", "run.yaml: holds no document"),
        ("# nothing\n", "run.yaml: holds no document"),
        (f"{KATO}---\n{INGEST}", "run.yaml: holds 2 documents, exactly one is expected"),
        ("- a", "run.yaml: must be a mapping of apiVersion, kind, metadata and spec, got a list"),
        ("text", "run.yaml: must be a mapping of apiVersion, kind, metadata and spec, got 'text'"),
        ("a: &x [*x]", "run.yaml: nested deeper than 100 levels"),
        ("[" * 5000, "run.yaml: nested deeper than 100 levels"),
    ],
)
def test_a_text_that_is_no_manifest_is_refused_with_a_place(text: str, complaint: str) -> None:
    (line,) = complaints(text)

    assert line.startswith(complaint)


def test_a_small_text_cannot_grow_without_bound() -> None:
    bomb = "\n".join(["a0: &a0 [0]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9))])

    assert complaints(bomb) == ["run.yaml: not valid YAML: more than 1000000 values"]


def test_a_repeated_key_is_refused_with_both_lines() -> None:
    text = KATO.replace("metadata:\n", "metadata:\n  name: first\n")

    assert complaints(text) == ["run.yaml, line 5, column 3: duplicate key 'name', first given in line 4"]


def test_keys_repeated_on_one_line_are_refused() -> None:
    assert complaints("{a: 1, a: 2, a: 3}") == [
        "run.yaml, line 1, column 8: duplicate key 'a', first given in line 1",
        "run.yaml, line 1, column 14: duplicate key 'a', first given in line 1",
    ]


def test_a_merge_key_may_be_overridden() -> None:
    engine = kato(KATO.replace("{name: node1}", "{<<: {name: node7, chunkSize: 5}, name: node1}"))

    assert engine.nodes[1].chunk_size == 5


@pytest.mark.parametrize("word", ["on", "yes", "y", "No", "off", "TRUE"])
def test_a_word_that_yaml_takes_for_a_boolean_is_explained(word: str) -> None:
    (line,) = complaints(KATO.replace("knowledgeBase: kb", f"knowledgeBase: {word}"))

    assert line.startswith("spec.engine.kato.knowledgeBase: must be a string, got ")
    assert line.endswith("(YAML takes y, yes, on, n, no, off for booleans: put it in quotes)")


def test_a_key_that_yaml_takes_for_a_boolean_or_a_number_is_explained() -> None:
    assert complaints("spec: {on: 1, 2: 3}") == [
        "spec: a key is read as true (YAML takes y, yes, on, n, no, off for booleans): put it in quotes",
        "spec: the key 2 is not a string: put it in quotes",
    ]


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (".inf", "must be a finite number"),
        (".nan", "must be a finite number"),
        ("99999999999999999999", "must fit into 64 bits"),
        ("!!binary aGk=", "must be plain YAML, a bytes has no place here"),
        ("!!set {a}", "must be plain YAML, a set has no place here"),
    ],
)
def test_what_json_cannot_say_is_refused(value: str, complaint: str) -> None:
    assert complaints(f"spec: [{{a: {value}}}]") == [f"spec[0].a: {complaint}"]
