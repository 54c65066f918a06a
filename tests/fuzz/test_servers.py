"""Whatever is sent to our services, they answer, and never with 500: bad requests are the sender's."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from shardwise_api.ingest import TmdBackendKind
from shardwise_jobs.engines.ingest.embed.onnx import OnnxEmbedder
from shardwise_jobs.engines.ingest.stores import VectorModel
from shardwise_jobs.services.ingest import app as ingest_app
from shardwise_jobs.services.ingest import gateway as ingest_gateway
from shardwise_jobs.services.ingest.llm import backend_without_llm
from shardwise_jobs.services.ingest.service import IngestService
from shardwise_jobs.services.ingest.settings import Settings as IngestSettings
from shardwise_jobs.services.kato.app import create_app
from shardwise_jobs.services.kato.service import SessionService, open_gateway
from shardwise_jobs.services.kato.settings import Settings
from tests.support import tiny_model
from tests.support.examples import examples

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.sampled_from([2**31, 2**63, -(2**63), 10**30]), st.floats(),
    st.text(max_size=6), st.sampled_from(["\0", "\ud800", "a|b", "$where", "x" * 3000, "PTRN|", ""]),
)  # fmt: skip
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
GUARD = {"run": "r", "shard": 0, "position": 1}
KATO: dict[str, dict[str, Any]] = {
    "/sessions": {"node_id": "n", "metadata": {}, "ttl_seconds": 100, "config": {"max_pattern_length": 0}},
    "/sessions/{}/config": {"config": {"recall_threshold": 0.1, "max_pattern_length": 2, "persistence": 5}},
    "/sessions/{}/observe": {"strings": ["a", "b"], "vectors": [], "emotives": {"joy": 1.0}, "metadata": {"k": "v"}},
    "/sessions/{}/observe-sequence": {
        "observations": [{"strings": ["a"], "learn": True, "emotives": {"joy": 1.0}, "metadata": {"k": 1}}],
        "learn_at_end": True,
        "guard": GUARD,
    },
    "/sessions/{}/learn-sequences": {"sequences": [["a", "b"]], "guard": GUARD},
    "/sessions/{}/learn": {},
    "/genes/update?node_id=n": {"genes": {"recall_threshold": 0.2}},
}
INGEST: dict[str, dict[str, Any]] = {
    "/ingest": {
        "chunks": [
            {
                "text": "DNA copies itself",
                "metadata": {"a": 1},
                "chunk_index": 0,
                "parent_cpe_ids": [],
                "domain_code": 1,
            }
        ],
        "dataset_source": "d",
        "batch_id": "b",
    }
}


def dumped(value: object) -> bytes:
    """Return JSON, with what Python alone takes for JSON."""
    return json.dumps(value).encode("utf-8", "surrogatepass")


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of each value within a body."""
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


def changed(body: dict[str, Any], path: tuple[Any, ...], value: object) -> object:
    """Return a copy of a body with another value at a place."""
    if not path:
        return value
    copy: Any = json.loads(json.dumps(body))
    here = copy
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    return copy


@pytest.fixture(scope="module")
def kato(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings()
    store = f"sqlite:///{tmp_path_factory.mktemp('kato') / 'patterns.db'}"
    service = SessionService(gateway=open_gateway(uri=store, settings=settings), settings=settings)
    with TestClient(create_app(service), base_url="http://localhost") as client:
        yield client


@pytest.fixture(scope="module")
def ingestion(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("ingest")
    embedder = OnnxEmbedder(tiny_model.make(folder / "model"))
    model = VectorModel(name=embedder.name, dimension=embedder.dimension)
    service = IngestService(
        settings=IngestSettings(),
        embedder=embedder,
        backend=backend_without_llm(TmdBackendKind.EMBEDDED, embedder=embedder),
        llm=None,
        store=ingest_gateway.RowGateway(f"sqlite:///{folder / 'rows.db'}", model=model),
    )
    with TestClient(ingest_app.create_app(service), base_url="http://localhost") as client:
        yield client


class Errors(logging.Handler):
    """Collects what is logged as an error, as a framework does with what nobody caught."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        self.records.append(record.getMessage())


@pytest.fixture
def errors() -> Iterator[Errors]:
    handler = Errors()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


def post(client: TestClient, path: str, body: bytes) -> None:
    if "{}" in path:
        made = client.post("/sessions", json={"node_id": "n"}).json()
        path = path.format(made["session_id"])
    answer = client.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code < 500, (path, body, answer.text)
    json.loads(answer.content)


@pytest.mark.parametrize("path", KATO)
def test_kato_takes_any_value_at_any_place(kato: TestClient, errors: Errors, path: str) -> None:
    @given(place=st.sampled_from(places(KATO[path])), value=JSON)
    @examples(30)
    def sent(place: tuple[Any, ...], value: object) -> None:
        post(kato, path, dumped(changed(KATO[path], place, value)))

    sent()
    assert errors.records == []


@pytest.mark.parametrize("path", ["/sessions", "/sessions/{}/observe", "/sessions/{}/learn-sequences"])
def test_kato_takes_any_bytes(kato: TestClient, errors: Errors, path: str) -> None:
    @given(
        body=st.binary(max_size=40) | st.sampled_from([b"\xff", b"[" * 300, b'{"a": NaN}', b'"\\ud800"', b"1" * 5000])
    )
    @examples(20)
    def sent(body: bytes) -> None:
        post(kato, path, body)

    sent()
    assert errors.records == []


@given(path=st.text(alphabet="abc/%.0?=&\u00e9", max_size=20), method=st.sampled_from(["GET", "DELETE", "PUT"]))
@examples(40)
def test_kato_takes_any_path(kato: TestClient, path: str, method: str) -> None:
    assert kato.request(method, f"http://localhost/{path}").status_code < 500


@pytest.mark.parametrize("position", [2**63, 2**64, -1, 1.5])
def test_a_guard_beyond_64_bits_is_refused(kato: TestClient, position: object) -> None:
    session = kato.post("/sessions", json={"node_id": "g"}).json()["session_id"]
    for guard in ({**GUARD, "position": position}, {**GUARD, "shard": position}):
        body = {"sequences": [["a", "b"]], "guard": guard}
        assert kato.post(f"/sessions/{session}/learn-sequences", json=body).status_code == 422


def test_ingestion_takes_any_value_at_any_place(ingestion: TestClient, errors: Errors) -> None:
    @given(place=st.sampled_from(places(INGEST["/ingest"])), value=JSON)
    @examples(80)
    def sent(place: tuple[Any, ...], value: object) -> None:
        post(ingestion, "/ingest", dumped(changed(INGEST["/ingest"], place, value)))

    sent()
    assert errors.records == []


@given(body=st.binary(max_size=40))
@examples(20)
def test_ingestion_takes_any_bytes(ingestion: TestClient, body: bytes) -> None:
    post(ingestion, "/ingest", body)
