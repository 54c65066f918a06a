"""One FAISS index of a data set, built from committed rows: the same file whatever shards and restarts there were.

Vectors go in in order of cpe_id, scaled to unit length, so that the inner product is the cosine. Beside the index lies
a manifest that says what it is; it is written last, and who reads the index compares both. A search goes from a
question to its vector, to the neighbours of that in the index, and to what the store knows of them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError

from shardwise.engine.errors import BadConfiguration, BadInput, WorkError, first_mistake
from shardwise.engine.files import OutputFolder, open_input
from shardwise_api.ingest import IndexKind

from .codes import DENSE_WIDTH, Codes
from .embed.base import Embedder, unit
from .stores.base import RowStore, StoredVector
from .stores.rows import Row

T = TypeVar("T")
INDEX_FILE, MANIFEST_FILE = "index.faiss", "index.json"
METRIC = "inner product of unit vectors"
_FIELD = "index"
_SLICE = 4096
_TRAINED_ON = 20_000
_NPROBE = 16
_SAMPLE = 16
_CLOSE = 1e-5
_ROUNDING = 1e-6
_CANDIDATES = 2_000
"""Looked at first by a search for texts alone: enough where texts and codes have nothing to do with each other."""
_MORE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an index file is."""

    kind: str
    dim: int
    ntotal: int
    metric: str
    model: str
    """Of the text's part of the vectors."""
    dataset: str
    nlist: int
    """Inverted lists, 0 where there are none."""
    nprobe: Annotated[int, Field(ge=0, lt=2**31)]
    """Of them, those that a search with codes looks into."""
    tmd_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """What the codes' numbers were multiplied with, and those of a question have to be."""
    sha256: str
    """Of the index file."""
    ids_sha256: str
    """Of the ids as they went in, 8 bytes each, big end first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One answer of a search: a vector's id and its similarity, -1 to 1."""

    faiss_id: int
    score: float


class IndexFailed(WorkError):
    """The index is not what its rows say."""

    reason = "IndexFailed"


class VectorIndex:
    """An index in memory."""

    def __init__(self, index: Any, manifest: Manifest) -> None:
        self.manifest = manifest
        self._index = index

    @classmethod
    def build(
        cls,
        vectors: Iterable[StoredVector],
        *,
        count: int,
        dimension: int,
        kind: IndexKind,
        model: str,
        dataset: str,
        tmd_weight: float = 1.0,
    ) -> VectorIndex:
        """Build an index of vectors that come in order of cpe_id. `dimension` is the fused one.

        `count` is how many were there when they were counted; others may have come since. It says how many lists to
        make where there are too many to look at them all first.

        `tmd_weight` is how much the codes' part counts beside the text's. It is the index's alone: rows of two runs
        with other weights are the same rows.

        Raises:
            IndexFailed: two vectors have one id, or the index does not find what went in.
        """
        faiss = _library()
        stream = iter(vectors)
        first = [] if kind is IndexKind.FLAT else list(islice(stream, _TRAINED_ON))
        # With all of them at hand, what was counted before does not matter.
        known = len(first) if len(first) < _TRAINED_ON else max(count, len(first))
        nlist = 0 if kind is IndexKind.FLAT else lists_for(known)
        index = _empty(faiss, dimension=dimension, nlist=nlist, sample=first, tmd_weight=tmd_weight)
        ids = hashlib.sha256()
        seen: set[int] = set()
        sample: list[tuple[int, NDArray[np.float32]]] = []
        for part in _slices(_chain(first, stream)):
            matrix = _matrix(part, dimension=dimension, tmd_weight=tmd_weight)
            numbers = np.array([vector.faiss_id for vector in part], dtype=np.int64)
            index.add_with_ids(matrix, numbers)
            ids.update(numbers.astype(">i8").tobytes())
            seen.update(numbers.tolist())
            if len(sample) < _SAMPLE:
                step = max(1, len(part) // _SAMPLE)
                sample += [(int(numbers[at]), matrix[at]) for at in range(0, len(part), step)]
        if index.ntotal != len(seen):
            raise IndexFailed(f"the index has {index.ntotal} vectors with {len(seen)} ids")
        content = _bytes(faiss, index)
        manifest = Manifest(
            kind=str(kind),
            dim=dimension,
            ntotal=index.ntotal,
            metric=METRIC,
            model=model,
            dataset=dataset,
            nlist=nlist,
            nprobe=min(_NPROBE, nlist),
            tmd_weight=tmd_weight,
            sha256=hashlib.sha256(content).hexdigest(),
            ids_sha256=ids.hexdigest(),
        )
        built = cls(index, manifest)
        built._check(sample)
        return built

    def write(self, output: OutputFolder) -> str:
        """Write index and manifest, each whole or not at all, and return the index's URI."""
        uri = output.write_bytes(INDEX_FILE, _bytes(_library(), self._index))
        output.write_text(MANIFEST_FILE, json.dumps(asdict(self.manifest), indent=2, ensure_ascii=False) + "\n")
        return uri

    @classmethod
    def read(cls, uri: str) -> VectorIndex:
        """Read the index of a folder.

        Raises:
            BadConfiguration: there is none that can be read.
            BadInput: it is not what its manifest says, as when it was written over half-way.
        """
        folder = OutputFolder(uri)
        with open_input(folder.uri_of(MANIFEST_FILE), field=_FIELD) as stream:
            text = stream.read()
        with open_input(folder.uri_of(INDEX_FILE), field=_FIELD) as stream:
            content = stream.read()
        try:
            manifest = TypeAdapter(Manifest).validate_json(text, strict=True)
        except ValidationError as error:
            what = first_mistake(error)
            raise BadInput(f"{folder.uri_of(MANIFEST_FILE)}: no manifest of an index: {what}") from error
        found = hashlib.sha256(content).hexdigest()
        if found != manifest.sha256:
            raise BadInput(f"{folder.uri_of(INDEX_FILE)}: sha256 is {found}, its manifest says {manifest.sha256}")
        try:
            index = _library().deserialize_index(np.frombuffer(content, dtype=np.uint8))
        except Exception as error:  # what its reader raises at bytes that are no index has no common base
            first = (str(error).splitlines() or [type(error).__name__])[-1][:200]
            raise BadInput(f"{folder.uri_of(INDEX_FILE)}: no index: {first}") from error
        is_what = (index.ntotal, index.d, getattr(index, "nlist", 0))
        if is_what != (manifest.ntotal, manifest.dim, manifest.nlist):
            raise BadInput(
                f"{folder.uri_of(INDEX_FILE)}: {index.ntotal} vectors of {index.d} numbers in {is_what[2]} lists, its "
                f"manifest says {manifest.ntotal} of {manifest.dim} in {manifest.nlist}"
            )
        return cls(index, manifest)

    def search(self, vector: NDArray[np.float32], *, k: int, codes: Codes | None = None) -> list[Hit]:
        """Return the `k` nearest, best first; equals by id. `vector` is a text's.

        With codes, the whole of a row's fused vector is compared, at the index's weight; of an index of inverted lists
        in `nprobe` of them. Without, the text's part alone, whatever the row's codes: exact, of either kind. Lists are
        made of whole vectors, in which the codes outweigh the text, so a text without codes may lie in any of them.

        Raises:
            BadConfiguration: the vector is of another width than the index's.
        """
        if len(vector) + DENSE_WIDTH != self.manifest.dim:
            expected = self.manifest.dim - DENSE_WIDTH
            raise BadConfiguration(f"{_FIELD}: it has {expected} numbers for a text, the embedding made {len(vector)}")
        k = min(k, self.manifest.ntotal)
        if codes is None:
            return self._nearest_texts(vector, k=k)
        query = unit(np.concatenate([vector, codes.dense() * np.float32(self.manifest.tmd_weight)]))
        return _best(self._nearest(query, count=k, nprobe=self.manifest.nprobe), k=k)

    def _nearest_texts(self, vector: NDArray[np.float32], *, k: int) -> list[Hit]:
        query = unit(np.concatenate([vector, np.zeros(DENSE_WIDTH, dtype=np.float32)]))
        # A score is the texts' cosine, divided by the length of the row's vector: 1 for its text, and its codes' bits.
        longest = math.sqrt(1 + DENSE_WIDTH * self.manifest.tmd_weight**2)
        count = max(_CANDIDATES, k)
        while True:
            found = self._nearest(query, count=min(count, self.manifest.ntotal), nprobe=self.manifest.nlist)
            hits = _best(self._by_text(found), k=k)
            if count >= self.manifest.ntotal or not hits:
                return hits
            # Whoever was left out has no higher score than the last one, and so no higher cosine than this.
            last = found[-1].score
            if hits[-1].score > max(last, last * longest) + _ROUNDING:
                return hits
            count *= _MORE

    def _nearest(self, query: NDArray[np.float32], *, count: int, nprobe: int) -> list[Hit]:
        if not count:
            return []
        options = {"params": _library().SearchParametersIVF(nprobe=nprobe)} if self.manifest.nlist else {}
        scores, ids = self._index.search(query[None, :], count, **options)
        # Of the inverted lists looked into there may be fewer.
        return [
            Hit(faiss_id=int(found), score=float(score))
            for found, score in zip(ids[0], scores[0], strict=True)
            if found >= 0
        ]

    def _by_text(self, hits: Sequence[Hit]) -> Iterator[Hit]:
        for part in _slices(iter(hits)):
            vectors = self._index.reconstruct_batch(np.array([hit.faiss_id for hit in part], dtype=np.int64))
            # In float64 no number of the index is too big to be squared.
            shares = np.linalg.norm(vectors[:, : self.manifest.dim - DENSE_WIDTH].astype(np.float64), axis=1)
            for hit, share in zip(part, shares.tolist(), strict=True):
                if not share or not math.isfinite(share):
                    raise BadInput(f"{_FIELD}: vector {hit.faiss_id} has no direction (zero, or not a number)")
                yield Hit(faiss_id=hit.faiss_id, score=hit.score / share)

    def _check(self, sample: Sequence[tuple[int, NDArray[np.float32]]]) -> None:
        for faiss_id, vector in sample:
            best = self._nearest(vector, count=1, nprobe=self.manifest.nprobe)
            # Equal vectors share the first place.
            if not best or (best[0].faiss_id != faiss_id and best[0].score > float(vector @ vector) + _CLOSE):
                raise IndexFailed(f"the index does not find vector {faiss_id} by itself: {best}")


def lists_for(count: int) -> int:
    """Return how many inverted lists go with so many vectors: at most one per 40, or training has too few of each."""
    if count < 8_000:
        lists = count // 40
    elif count < 20_000:
        lists = min(200, count // 40)
    elif count < 40_000:
        lists = min(512, count // 40)
    else:
        lists = math.isqrt(count)
    return max(1, lists)


def _empty(faiss: Any, *, dimension: int, nlist: int, sample: Sequence[StoredVector], tmd_weight: float) -> Any:
    if not nlist:
        return faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))
    quantizer = faiss.IndexFlatIP(dimension)
    index = faiss.IndexIVFFlat(quantizer, dimension, nlist, faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1
    if sample:
        # On one thread: between several the sums of a centroid would round by their number.
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            index.train(_matrix(sample, dimension=dimension, tmd_weight=tmd_weight))
        finally:
            faiss.omp_set_num_threads(threads)
    # By hash: ids are no positions. Without it a vector could not be read back by its id.
    index.set_direct_map_type(faiss.DirectMap.Hashtable)
    return index


def _matrix(vectors: Sequence[StoredVector], *, dimension: int, tmd_weight: float) -> NDArray[np.float32]:
    for vector in vectors:
        if vector.fused.shape != (dimension,):
            raise IndexFailed(f"row {vector.cpe_id} has a vector of {len(vector.fused)} numbers, not {dimension}")
    matrix = np.stack([vector.fused for vector in vectors])
    matrix[:, -DENSE_WIDTH:] *= np.float32(tmd_weight)
    return unit(matrix)


def _slices(items: Iterator[T]) -> Iterator[list[T]]:
    while part := list(islice(items, _SLICE)):
        yield part


def _best(hits: Iterable[Hit], *, k: int) -> list[Hit]:
    return sorted(hits, key=lambda hit: (-hit.score, hit.faiss_id))[:k]


def _chain(first: Sequence[StoredVector], rest: Iterator[StoredVector]) -> Iterator[StoredVector]:
    yield from first
    yield from rest


def _bytes(faiss: Any, index: Any) -> bytes:
    content: bytes = faiss.serialize_index(index).tobytes()
    return content


def _library() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise BadConfiguration("the index needs the extra: pip install 'shardwise[ingest]'") from error
    return faiss


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A row and how near it is, -1 to 1."""

    score: float
    row: Row


def search(
    text: str, *, index: VectorIndex, store: RowStore, embedder: Embedder, k: int = 10, codes: Codes | None = None
) -> list[Answer]:
    """Return the `k` rows nearest to a text, best first. For `codes` see `VectorIndex.search`.

    Raises:
        BadConfiguration: the index is of another model than the embedder, or has rows that the store lacks.
    """
    if index.manifest.model != embedder.name:
        raise BadConfiguration(f"index: it is of {index.manifest.model}, the text would be embedded by {embedder.name}")
    hits = index.search(embedder.embed([text])[0], k=k, codes=codes)
    rows = store.found(faiss_ids=[hit.faiss_id for hit in hits])
    missing = [hit.faiss_id for hit in hits if hit.faiss_id not in rows]
    if missing:
        raise BadConfiguration(f"index: {len(missing)} of {len(hits)} hits are no rows of this store")
    return [Answer(score=hit.score, row=rows[hit.faiss_id]) for hit in hits]
