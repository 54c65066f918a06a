# The KATO-compatible session server. Its store is an argument; the one here is lost with the container.
# Any base with Python 3.11 or newer and its venv module does. Built from the repository's root:
#   docker build --file images/kato-server.Dockerfile .
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
ARG EXTRAS="kato"
# Other versions than the lock's, for whoever needs them: "pymongo<4.16". Their hashes are not checked.
ARG CONSTRAINTS=""
COPY pyproject.toml images/requirements.py /
RUN python3 /pins.py /requirements.lock with "${CONSTRAINTS}" > /constraints.txt \
    && python3 /requirements.py /pyproject.toml ${EXTRAS} > /requirements.txt

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

FROM ${BASE_IMAGE}
COPY --from=dependencies /etc/passwd /etc/group /etc/
COPY --from=dependencies /opt/shardwise /opt/shardwise
COPY --from=source /app /opt/shardwise/app
# The root file system is read-only: what libraries want to write goes to /tmp.
ENV PATH=/opt/shardwise/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /
EXPOSE 8000
USER 65532:65532
ENTRYPOINT ["python", "-P", "-m", "shardwise_jobs.services.kato", "--host", "0.0.0.0", "--port", "8000"]
CMD ["--store", "sqlite:////tmp/patterns.db"]
ARG VERSION=dev
LABEL org.opencontainers.image.title="Shardwise KATO server" \
      org.opencontainers.image.description="Serves KATO sessions over a pattern store" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
