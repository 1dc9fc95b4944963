# One image for the api, the worker and the migration; the command chooses: `serve` (the api, default), `worker`, `migrate`.
ARG PYTHON_IMAGE=python:3.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/venv
COPY requirements-runtime.lock /build/
# The lock fixes every file by its hash; wheels only, so that nothing is compiled and no compiler is needed.
RUN python -m pip --python /opt/venv/bin/python install --require-hashes --only-binary=:all: \
    -r /build/requirements-runtime.lock
COPY app /opt/parhelion/app
COPY migrations /opt/parhelion/migrations
COPY alembic.ini pyproject.toml /opt/parhelion/
# The lock above is without the embedded servers: in production the databases are named, never started.
RUN /opt/venv/bin/python -m compileall -q /opt/parhelion/app \
    && printf '#!/bin/sh\nexec /opt/venv/bin/python -m app.cli "$@"\n' > /opt/venv/bin/parhelion \
    && chmod 0755 /opt/venv/bin/parhelion

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Parhelion" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.description="An open, self-hosted integration hub around HaloPSA"
# Nothing is written at run time: no bytecode, no cache; the root filesystem may be read-only (k8s/base does that).
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/opt/parhelion \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONFAULTHANDLER=1
RUN groupadd --system --gid 10001 parhelion \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin parhelion
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/parhelion /opt/parhelion
WORKDIR /opt/parhelion
USER 10001:10001
EXPOSE 8080
# For plain container engines; Kubernetes has its own probes. A worker is run with --health-cmd "parhelion health worker".
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 CMD ["parhelion", "health", "api"]
ENTRYPOINT ["parhelion"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8080"]
