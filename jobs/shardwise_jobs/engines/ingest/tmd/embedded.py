"""Codes without an LLM: the labels whose names lie nearest to the text in the embedding space.

It needs nothing that the embedding of the chunks does not need, and says the same about a text every time. Its word is
worth less than a model's, which is why the row says who spoke, and how narrow the choice was.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shardwise_jobs.engines.ingest.codes import LABELS, Codes
from shardwise_jobs.engines.ingest.embed.base import Embedder, Vectors

from .base import TmdAnswer, TmdFailure

VERSION = 1
"""Rises with the phrases or the choice: other codes of the same text."""

PHRASES = {
    "domain": "This is about {label}.",
    "task": "{label}",
    "modifier": "{label} text",
}
"""What stands for a label. Compared by eye on a manual's paragraphs: as a sentence, a domain's name found more of them
to be about what they are about; a task's did not."""


class EmbeddedTmd:
    """Compares texts with prototypes of all labels, made by the embedder of the chunks."""

    def __init__(self, embedder: Embedder) -> None:
        """Prepare; labels are embedded with the first text: 112 short sentences, some seconds at most."""
        self._embedder = embedder
        self._labels: list[NDArray[np.float64]] = []
        self._lock = threading.Lock()
        self.name = f"embedded-v{VERSION}:{embedder.name}"
        self.label = self.name

    async def codes(self, texts: Sequence[str]) -> list[TmdAnswer | TmdFailure]:
        """See `TmdBackend.codes`; embeds on a thread. Where the vectors are there already, use `codes_of_vectors`."""
        if not texts:
            return []
        return list(await asyncio.to_thread(lambda: self.codes_of_vectors(self._embedder.embed(texts))))

    def codes_of_vectors(self, vectors: Vectors) -> list[TmdAnswer]:
        """Return an answer per vector of a text, shape (texts, dimension), unit length.

        The confidence is the smallest lead, over the three fields, of the nearest label over the next: 0 to 2.
        """
        return [self._nearest(vector) for vector in vectors.astype(np.float64)]

    async def close(self) -> None:
        """The embedder belongs to whoever made it."""

    def _prototypes(self) -> list[NDArray[np.float64]]:
        # Not before they are needed: whoever brings codes for all chunks, or has them already, needs none.
        with self._lock:
            if not self._labels:
                self._labels = [
                    self._embedder.embed([PHRASES[field].format(label=label.lower()) for label in labels]).astype(
                        np.float64
                    )
                    for field, labels in LABELS.items()
                ]
            return self._labels

    def _nearest(self, vector: NDArray[np.float64]) -> TmdAnswer:
        codes: list[int] = []
        leads: list[float] = []
        for prototypes in self._prototypes():
            # One vector at a time: a product of matrices may round otherwise in other company.
            cosines = prototypes @ vector
            best = int(np.argmax(cosines))
            codes.append(best)
            leads.append(float(cosines[best] - np.delete(cosines, best).max()))
        return TmdAnswer(codes=Codes(*codes), confidence=min(leads), backend=self.name)
