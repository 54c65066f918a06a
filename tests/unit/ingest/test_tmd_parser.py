"""What a model says: one set of codes when it clearly is one, and never a guess."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise_jobs.engines.ingest.codes import Codes
from shardwise_jobs.engines.ingest.tmd.parser import UnusableAnswer, parse_answer

GOOD = '{"domain":15,"task":14,"modifier":9}'


def _reason(words: str, *, complete: bool = True) -> str:
    with pytest.raises(UnusableAnswer) as error:
        parse_answer(words, complete=complete)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 250
    return message


@pytest.mark.parametrize(
    "words",
    [
        GOOD,
        ' \n{\n  "modifier": 9,\n  "task": 14,\n  "domain": 15\n}\n',
        f"```json\n{GOOD}\n```",
        f"Sure! Here is the object: {GOOD} I hope this helps.",
        f"A set like {{x}} is no object, but {GOOD} is.",
        '{"domain":15,"task":14,"modifier":9,"why":"it speaks of 1, 2, 3"}',
        "15,14,9",
        " 15 , 14 , 9 \n",
        "(15, 14, 9)",
        "[15, 14, 9]",
        "The answer is 15,14,9.",
        f"{GOOD} In short: 15,14,9. Once more: {GOOD}",
        "答案：15,14,9。",  # noqa: RUF001
    ],
)
def test_an_object_or_three_bare_numbers_are_codes(words: str) -> None:
    assert parse_answer(words) == Codes(15, 14, 9)


@given(st.integers(0, 15), st.integers(0, 31), st.integers(0, 63))
def test_both_forms_of_all_codes_are_read(domain: int, task: int, modifier: int) -> None:
    codes = Codes(domain, task, modifier)
    assert parse_answer(json.dumps({"domain": domain, "task": task, "modifier": modifier})) == codes
    assert parse_answer(f"{domain},{task},{modifier}") == codes


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ('{"domain":16,"task":14,"modifier":9}', "domain 16 is not within 0 to 15"),
        ('{"domain":15,"task":32,"modifier":9}', "task 32 is not within 0 to 31"),
        ('{"domain":15,"task":14,"modifier":64}', "modifier 64 is not within 0 to 63"),
        ('{"domain":-1,"task":14,"modifier":9}', "domain -1 is not within 0 to 15"),
        ("16,14,9", "domain 16 is not within 0 to 15"),
        ("1,234,567", "task 234 is not within 0 to 31"),
        ("2024,12,31", "domain 2024 is not within 0 to 15"),
        ('{"domain":' + "9" * 4000 + ',"task":1,"modifier":1}', "domain in the answer is out of range"),
    ],
)
def test_a_number_out_of_range_is_refused_and_never_bent(words: str, reason: str) -> None:
    assert _reason(words).startswith(reason)


@pytest.mark.parametrize("end", range(1, len(GOOD)))
def test_an_object_cut_off_anywhere_is_no_answer(end: int) -> None:
    assert "a JSON object that was cut off" in _reason(GOOD[:end], complete=False)


def test_three_numbers_cut_off_may_lack_a_digit() -> None:
    assert "cut off within its last number" in _reason("15,14,9", complete=False)
    assert parse_answer("15,14,9 because the", complete=False) == Codes(15, 14, 9)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ('{"domain":15,"task":14}', "the answer has no modifier"),
        ('{"Domain":15,"task":14,"modifier":9}', "the answer has no domain"),
        ('{"domain":"15","task":14,"modifier":9}', "domain in the answer is no whole number"),
        ('{"domain":15.0,"task":14,"modifier":9}', "domain in the answer is no whole number"),
        ('{"domain":true,"task":14,"modifier":9}', "domain in the answer is no whole number"),
        ('{"domain":null,"task":14,"modifier":9}', "domain in the answer is no whole number"),
        ('{"domain":[15],"task":14,"modifier":9}', "domain in the answer is no whole number"),
        ('{"codes": [15, 14, 9]}', "the answer has no domain"),
        ("{15, 14, 9}", "the answer holds a broken JSON object"),
        ("{" * 100_000, "the answer holds a broken JSON object"),
        ('{"a":' * 100_000, "the answer holds a broken JSON object"),
    ],
)
def test_another_object_is_no_answer(words: str, reason: str) -> None:
    assert _reason(words).startswith(reason)


@pytest.mark.parametrize(
    "words",
    [
        "I am sorry, but as a language model I can not do that.",
        "Domain 15, task 14, modifier 9",
        "Science, Fact Retrieval, Biochemical",
        "15 14 9",
        "15,14",
        "15;14;9",
        "1,2,3,4",
        "0, 1, 2, 3, 4, 5",
        "1.5,2,3",
        "15,14,9.5",
        "-1,2,3",
        "1,-2,3",
        "v1,2,3",
        "15,14,9th",
        "١٥,١٤,٩",  # noqa: RUF001
        "१५,१४,९",
        "\uff11\uff15,\uff11\uff14,\uff19",
        "十五,十四,九",
        "Это текст о программах.",  # noqa: RUF001
        "これはソフトウェアについての文章です。",
        "😀😀😀",
        "\x00\x01\x02",
        "<html><body>502 Bad Gateway</body></html>",
        "null",
        "0",
    ],
)
def test_nonsense_in_any_language_is_no_answer(words: str) -> None:
    assert _reason(words).startswith("the answer holds neither")


@pytest.mark.parametrize("words", ["", "  \n"])
def test_silence_is_no_answer(words: str) -> None:
    assert _reason(words) == "the answer is empty"


@pytest.mark.parametrize(
    "words",
    [
        "Codes: 15,14,9\nFor example 1,2,3 would be wrong.",
        f'The format is {{"domain": 9, "task": 9, "modifier": 9}}. My answer: {GOOD}',
        f"{GOOD} or rather 0,5,7",
        f"0,5,7 or rather {GOOD}",
        '{"domain":15,"task":14,"modifier":9,"domain":1}',
    ],
)
def test_of_answers_that_differ_none_is_chosen(words: str) -> None:
    assert _reason(words).startswith("the answer is ambiguous")


@pytest.mark.parametrize("words", [f'{GOOD} {{"domain": 1, "ta', f"{GOOD} {{'domain': 1, 'task': 2, 'modifier': 3}}"])
def test_an_answer_beside_one_that_nobody_can_read_is_none(words: str) -> None:
    assert _reason(words, complete=False).startswith("the answer holds a JSON object that was cut off")


def test_an_answer_before_more_braces_than_anybody_reads_is_none() -> None:
    assert _reason(GOOD + "{" * 100).startswith("the answer holds a broken JSON object")


DRAFT = 'Perhaps {"domain": 1, "task": 2, "modifier": 3}? Or 4,5,6? No.'


@pytest.mark.parametrize(
    "words",
    [
        f"<think>\n{DRAFT}\n</think>\n{GOOD}",
        f"<THINK>{DRAFT}</THINK>15,14,9",
        f'<thinking mode="slow">{DRAFT}</thinking>{GOOD}',
        f"<reasoning>{DRAFT}</reasoning><think>{DRAFT}</think>{GOOD}",
        f"<think>{DRAFT}<think>{DRAFT}</think>{DRAFT}</think>{GOOD}",
        f"{DRAFT}</think>{GOOD}",
        f"[THINK]{DRAFT}[/THINK]{GOOD}",
        f"◁think▷{DRAFT}◁/think▷{GOOD}",
        f"<|begin_of_thought|>{DRAFT}<|end_of_thought|>{GOOD}",
        f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>{GOOD}",
        f"{GOOD}<think>{DRAFT}",
    ],
)
def test_what_a_model_thinks_is_no_answer(words: str) -> None:
    assert parse_answer(words) == Codes(15, 14, 9)


@pytest.mark.parametrize("words", [f"<think>{DRAFT}", f"<think>{DRAFT}</think>", f"{DRAFT}</think>  "])
def test_a_model_that_only_thinks_has_said_nothing(words: str) -> None:
    assert _reason(words) == "the model thought and gave no answer"
    assert _reason(words, complete=False).startswith("the model spent all its tokens on thinking and gave no answer")


def test_thoughts_that_the_server_kept_apart_are_told_as_well() -> None:
    with pytest.raises(UnusableAnswer, match="spent all its tokens on thinking"):
        parse_answer("", complete=False, thought=True)


@given(st.text(max_size=60), st.booleans())
def test_whatever_is_said_it_is_codes_or_refused(words: str, complete: bool) -> None:
    with suppress(UnusableAnswer):
        assert isinstance(parse_answer(words, complete=complete), Codes)
