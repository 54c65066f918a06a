"""TMD codes: three small numbers that say what a text is about, what it serves for and in which colour.

Two programs that pack the same codes otherwise would mean different things by one number. Hence everything that turns
codes into numbers, and back, is here. The order is domain, task, modifier everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

DOMAINS = (
    "Science",
    "Mathematics",
    "Technology",
    "Engineering",
    "Medicine",
    "Psychology",
    "Philosophy",
    "History",
    "Literature",
    "Art",
    "Economics",
    "Law",
    "Politics",
    "Education",
    "Environment",
    "Software",
)
TASKS = (
    "Fact Retrieval",
    "Definition Matching",
    "Analogical Reasoning",
    "Causal Inference",
    "Classification",
    "Entity Recognition",
    "Relationship Extraction",
    "Schema Adherence",
    "Summarization",
    "Paraphrasing",
    "Translation",
    "Sentiment Analysis",
    "Argument Evaluation",
    "Hypothesis Testing",
    "Code Generation",
    "Function Calling",
    "Mathematical Proof",
    "Diagram Interpretation",
    "Temporal Reasoning",
    "Spatial Reasoning",
    "Ethical Evaluation",
    "Policy Recommendation",
    "Roleplay Simulation",
    "Creative Writing",
    "Instruction Following",
    "Error Detection",
    "Output Repair",
    "Question Generation",
    "Conceptual Mapping",
    "Knowledge Distillation",
    "Tool Use",
    "Prompt Completion",
)
MODIFIERS = (
    "Biochemical",
    "Evolutionary",
    "Computational",
    "Logical",
    "Ethical",
    "Historical",
    "Legal",
    "Philosophical",
    "Emotional",
    "Technical",
    "Creative",
    "Abstract",
    "Concrete",
    "Visual",
    "Auditory",
    "Spatial",
    "Temporal",
    "Quantitative",
    "Qualitative",
    "Procedural",
    "Declarative",
    "Comparative",
    "Analogical",
    "Causal",
    "Hypothetical",
    "Experimental",
    "Narrative",
    "Descriptive",
    "Prescriptive",
    "Diagnostic",
    "Predictive",
    "Reflective",
    "Strategic",
    "Tactical",
    "Symbolic",
    "Functional",
    "Structural",
    "Semantic",
    "Syntactic",
    "Pragmatic",
    "Normative",
    "Statistical",
    "Probabilistic",
    "Deterministic",
    "Stochastic",
    "Modular",
    "Hierarchical",
    "Distributed",
    "Localized",
    "Global",
    "Contextual",
    "Generalized",
    "Specialized",
    "Interdisciplinary",
    "Multimodal",
    "Ontological",
    "Epistemic",
    "Analog-sensitive",
    "Schema-bound",
    "Role-based",
    "Feedback-driven",
    "Entailment-aware",
    "Alignment-focused",
    "Compression-optimized",
)
LABELS = {"domain": DOMAINS, "task": TASKS, "modifier": MODIFIERS}
"""The labels of each field, in order; a code is a label's index."""

COMBINATIONS = len(DOMAINS) * len(TASKS) * len(MODIFIERS)
DENSE_WIDTH = 16

_DOMAIN_BITS, _TASK_BITS, _MODIFIER_BITS = 4, 5, 6


class CodeOutOfRange(ValueError):
    """A code, or a packed number, stands for no label; the message names the field and its range."""


@dataclass(frozen=True, slots=True, order=True)
class Codes:
    """Domain (0 to 15), task (0 to 31) and modifier (0 to 63) of a text.

    Raises:
        CodeOutOfRange: a code is no whole number, or has no label. Nothing is ever clamped.
    """

    domain: int
    task: int
    modifier: int

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field.name, getattr(self, field.name), highest=len(LABELS[field.name]) - 1)

    @property
    def names(self) -> tuple[str, str, str]:
        """The three labels."""
        return DOMAINS[self.domain], TASKS[self.task], MODIFIERS[self.modifier]

    @property
    def lane(self) -> str:
        """The name of the lane, which is the domain's."""
        return f"lane_{self.domain}"

    @property
    def lane_index(self) -> int:
        """The number of the lane, which is the domain's."""
        return self.domain

    def compact(self) -> int:
        """Return domain in bits 14 to 11, task in 10 to 6, modifier in 5 to 0: 0 to 32,767, which fits a SMALLINT."""
        return (self.domain << _TASK_BITS | self.task) << _MODIFIER_BITS | self.modifier

    @classmethod
    def from_compact(cls, packed: int) -> Codes:
        """Return the codes of a `compact` number.

        Raises:
            CodeOutOfRange: it is none.
        """
        _check("compact", packed, highest=COMBINATIONS - 1)
        domain, rest = divmod(packed, 1 << _TASK_BITS + _MODIFIER_BITS)
        return cls(domain, *divmod(rest, 1 << _MODIFIER_BITS))

    def wide(self) -> int:
        """Return the layout of other tools, one bit further left with bit 0 spare: to 65,534, too big for SMALLINT."""
        return self.compact() << 1

    @classmethod
    def from_wide(cls, packed: int) -> Codes:
        """Return the codes of a `wide` number.

        Raises:
            CodeOutOfRange: it is none. An odd number isn't, as nobody sets the spare bit.
        """
        _check("wide", packed, highest=2 * (COMBINATIONS - 1))
        if packed & 1:
            raise CodeOutOfRange(f"wide {packed} has its spare bit 0 set")
        return cls.from_compact(packed >> 1)

    def dense(self) -> NDArray[np.float32]:
        """Return the bits as 0.0 and 1.0, shape (16,): domain at 0, task at 4, modifier at 9, each least bit first."""
        bits = self.domain | self.task << _DOMAIN_BITS | self.modifier << _DOMAIN_BITS + _TASK_BITS
        return np.array([bits >> slot & 1 for slot in range(DENSE_WIDTH)], dtype=np.float32)


def _check(name: str, value: object, *, highest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise CodeOutOfRange(f"{name} {value!r} is not a whole number")
    if not 0 <= value <= highest:
        raise CodeOutOfRange(f"{name} {value} is not within 0 to {highest}")
