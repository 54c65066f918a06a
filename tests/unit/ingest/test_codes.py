"""TMD codes: every label where its number says, every packing the same for all combinations, nothing clamped."""

from __future__ import annotations

import re

import numpy as np
import pytest

from shardwise_jobs.engines.ingest.codes import COMBINATIONS, DOMAINS, MODIFIERS, TASKS, CodeOutOfRange, Codes

DOMAIN_TABLE = """0 Science, 1 Mathematics, 2 Technology, 3 Engineering, 4 Medicine, 5 Psychology, 6 Philosophy,
7 History, 8 Literature, 9 Art, 10 Economics, 11 Law, 12 Politics, 13 Education, 14 Environment, 15 Software"""
TASK_TABLE = """0 Fact Retrieval, 1 Definition Matching, 2 Analogical Reasoning, 3 Causal Inference, 4 Classification,
5 Entity Recognition, 6 Relationship Extraction, 7 Schema Adherence, 8 Summarization, 9 Paraphrasing, 10 Translation,
11 Sentiment Analysis, 12 Argument Evaluation, 13 Hypothesis Testing, 14 Code Generation, 15 Function Calling,
16 Mathematical Proof, 17 Diagram Interpretation, 18 Temporal Reasoning, 19 Spatial Reasoning, 20 Ethical Evaluation,
21 Policy Recommendation, 22 Roleplay Simulation, 23 Creative Writing, 24 Instruction Following, 25 Error Detection,
26 Output Repair, 27 Question Generation, 28 Conceptual Mapping, 29 Knowledge Distillation, 30 Tool Use,
31 Prompt Completion"""
MODIFIER_TABLE = """0 Biochemical, 1 Evolutionary, 2 Computational, 3 Logical, 4 Ethical, 5 Historical, 6 Legal,
7 Philosophical, 8 Emotional, 9 Technical, 10 Creative, 11 Abstract, 12 Concrete, 13 Visual, 14 Auditory, 15 Spatial,
16 Temporal, 17 Quantitative, 18 Qualitative, 19 Procedural, 20 Declarative, 21 Comparative, 22 Analogical, 23 Causal,
24 Hypothetical, 25 Experimental, 26 Narrative, 27 Descriptive, 28 Prescriptive, 29 Diagnostic, 30 Predictive,
31 Reflective, 32 Strategic, 33 Tactical, 34 Symbolic, 35 Functional, 36 Structural, 37 Semantic, 38 Syntactic,
39 Pragmatic, 40 Normative, 41 Statistical, 42 Probabilistic, 43 Deterministic, 44 Stochastic, 45 Modular,
46 Hierarchical, 47 Distributed, 48 Localized, 49 Global, 50 Contextual, 51 Generalized, 52 Specialized,
53 Interdisciplinary, 54 Multimodal, 55 Ontological, 56 Epistemic, 57 Analog-sensitive, 58 Schema-bound, 59 Role-based,
60 Feedback-driven, 61 Entailment-aware, 62 Alignment-focused, 63 Compression-optimized"""


@pytest.mark.parametrize(
    ("labels", "table"), [(DOMAINS, DOMAIN_TABLE), (TASKS, TASK_TABLE), (MODIFIERS, MODIFIER_TABLE)]
)
def test_each_label_has_the_number_the_interface_gives_it(labels: tuple[str, ...], table: str) -> None:
    rows = [re.fullmatch(r"(\d+) (.+)", row.strip()) for row in table.split(",")]
    assert {int(row[1]): row[2] for row in rows if row} == dict(enumerate(labels))


@pytest.mark.parametrize(
    ("codes", "compact", "wide", "dense", "ones"),
    [
        (Codes(0, 0, 0), 0, 0, "0000 00000 000000 0", 0),
        (Codes(2, 5, 10), 4426, 8852, "0100 10100 010100 0", 5),
        (Codes(4, 5, 0), 8512, 17024, "0010 10100 000000 0", 3),
        (Codes(15, 14, 9), 31625, 63250, "1111 01110 100100 0", 9),
        (Codes(15, 31, 63), 32767, 65534, "1111 11111 111111 0", 15),
    ],
)
def test_known_codes_are_packed_as_the_interface_prints_them(
    codes: Codes, compact: int, wide: int, dense: str, ones: int
) -> None:
    assert codes.compact() == compact
    assert codes.wide() == wide
    assert "".join(str(int(bit)) for bit in codes.dense()) == dense.replace(" ", "")
    assert codes.dense().sum() == ones
    assert codes.dense().dtype == np.float32
    assert codes.dense().shape == (16,)
    assert (codes.lane, codes.lane_index) == (f"lane_{codes.domain}", codes.domain)


def test_all_combinations_come_back_from_every_layout() -> None:
    every = [Codes(domain, task, modifier) for domain in range(16) for task in range(32) for modifier in range(64)]
    assert len(every) == COMBINATIONS == 32_768
    # In order of domain, task, modifier the compact numbers are just counted through.
    assert [codes.compact() for codes in every] == list(range(32_768))
    assert [Codes.from_compact(number) for number in range(32_768)] == every
    assert [codes.wide() for codes in every] == list(range(0, 65_536, 2))
    assert [Codes.from_wide(codes.wide()) for codes in every] == every
    dense = np.stack([codes.dense() for codes in every])
    assert set(np.unique(dense)) == {0.0, 1.0}
    assert not dense[:, 15].any()
    fields = [dense[:, first:last] @ (2 ** np.arange(last - first)) for first, last in ((0, 4), (4, 9), (9, 15))]
    assert np.array_equal(np.stack(fields, axis=1), [(c.domain, c.task, c.modifier) for c in every])


def test_names_are_the_labels() -> None:
    assert Codes(15, 14, 9).names == ("Software", "Code Generation", "Technical")


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ((16, 0, 0), "domain 16 is not within 0 to 15"),
        ((0, 32, 0), "task 32 is not within 0 to 31"),
        ((0, 0, 64), "modifier 64 is not within 0 to 63"),
        ((-1, 0, 0), "domain -1 is not within 0 to 15"),
        ((0, 1.0, 0), "task 1.0 is not a whole number"),
        ((True, 0, 0), "domain True is not a whole number"),
        ((0, 0, "9"), "modifier '9' is not a whole number"),
        ((0, 0, None), "modifier None is not a whole number"),
    ],
)
def test_a_code_without_a_label_is_refused_by_name(codes: tuple[int, int, int], message: str) -> None:
    with pytest.raises(CodeOutOfRange, match=f"^{re.escape(message)}$"):
        Codes(*codes)


@pytest.mark.parametrize("packed", [-1, 32_768, True])
def test_a_number_that_is_no_compact_code_is_refused(packed: int) -> None:
    with pytest.raises(CodeOutOfRange, match=r"^compact "):
        Codes.from_compact(packed)


@pytest.mark.parametrize("packed", [-2, 65_535, 65_536, 8853])
def test_a_number_that_is_no_wide_code_is_refused(packed: int) -> None:
    with pytest.raises(CodeOutOfRange, match=r"^wide "):
        Codes.from_wide(packed)
