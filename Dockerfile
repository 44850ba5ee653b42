# The command as an image: make image. A user's code is a second Dockerfile of three lines: examples/worker/Dockerfile.
# BASE: any image with Python 3.11 or later and its venv module. Both stages have the same one, so that paths agree.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
# Packages are those of the lock files, by hash: from the index, or, with PIP_NO_INDEX=1, from wheels/ (make wheels).
ARG PIP_INDEX_URL
ARG PIP_NO_INDEX
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_FIND_LINKS=/src/wheels PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# The image's own environment has no pip: the one of the build stage fills it.
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/checkpoint-consumer
COPY requirements.lock requirements-build.lock wheel[s] wheels/
RUN /build/bin/pip install --require-hashes -r wheels/requirements-build.lock && \
    /build/bin/pip --python /opt/checkpoint-consumer/bin/python install --require-hashes -r wheels/requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY consumer consumer
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist . && \
    /build/bin/pip --python /opt/checkpoint-consumer/bin/python install --no-deps --no-index /dist/*.whl

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="checkpoint-consumer" \
      org.opencontainers.image.description="Blockchain checkpoints from Kafka in, Avro records out, exactly once" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/checkpoint-consumer /opt/checkpoint-consumer
# Nothing is written at run time. User code is imported from /app and from nowhere else.
ENV PATH=/opt/checkpoint-consumer/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONSAFEPATH=1 PYTHONPATH=/app
WORKDIR /app
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
# No shell in between: the command is process 1 and gets the signals.
ENTRYPOINT ["checkpoint-consumer"]
CMD ["run"]
