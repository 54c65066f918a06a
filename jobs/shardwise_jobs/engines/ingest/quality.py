"""The quality figures of a row, as the system has them that reads the tables.

They say how much of an extraction (concept, question, answer, negatives) a row has. Without one they are nearly the
same for all rows; programs that sort by them find the columns filled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_FIELDS = 5
_FILLED = 1
"""Of concept, question, answer, soft and hard negatives: the concept, which is the text itself."""
_DIGITS = 6


def quality_metrics(text: str, *, vector: NDArray[np.float32]) -> dict[str, Any]:
    """Return the metrics of a text without an extraction; `vector` is the text's."""
    return {
        "cpesh_completeness": _FILLED / _FIELDS,
        "vector_norm": round(float(np.linalg.norm(vector.astype(np.float64))), _DIGITS),
        "vector_dimension": len(vector),
        "text_length": len(text),
        "concept_length": len(text),
        "soft_negatives_count": 0,
        "hard_negatives_count": 0,
        "total_negatives": 0,
    }


def confidence_score(metrics: dict[str, Any]) -> float:
    """Return 0 to 1: completeness, length of the vector, negatives, and how much shorter the concept is."""
    score: float = 0.4 * metrics["cpesh_completeness"] + 0.1 * min(metrics["vector_norm"] / 10, 1)
    score += 0.3 * min(metrics["total_negatives"] / 5, 1)
    ratio = metrics["concept_length"] / max(1, metrics["text_length"])
    if 0.1 <= ratio <= 0.5:
        score += 0.2
    elif 0.05 <= ratio <= 0.8:
        score += 0.1
    return round(min(score, 1.0), _DIGITS)
