# All of the farm that needs no device: API, scheduler, and workers that ingest, merge and publish. There is no JAX in it.
#   docker build -f infra/docker/desk.Dockerfile -t stenopool-desk .
# Where packages come from another index than PyPI, its address and password are a secret, and in no layer of the image:
#   --secret id=pip,src=$HOME/.config/pip/pip.conf

# Pin it in production: --build-arg PYTHON_IMAGE=python:3.12-slim-bookworm@sha256:...
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/stenopool
WORKDIR /src
# Before the code: it changes less often.
COPY infra/docker/desk.lock ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    /opt/stenopool/bin/pip install --require-hashes --only-binary=:all: -r desk.lock
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY stenopool stenopool
COPY workers workers
COPY scheduler scheduler
COPY storage storage
COPY models models
# Its lock leaves JAX out on purpose: nothing else is asked for.
RUN /opt/stenopool/bin/pip install --no-deps --no-build-isolation .

FROM ${PYTHON_IMAGE}
# A number, so that Kubernetes can see that it is not root.
RUN groupadd --gid 10001 stenopool \
    && useradd --uid 10001 --gid 10001 --create-home --home-dir /var/lib/stenopool stenopool \
    && install -d -o 10001 -g 10001 /models /cache /scratch
COPY --from=build /opt/stenopool /opt/stenopool
ENV PATH=/opt/stenopool/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    STENOPOOL_HOME=/var/lib/stenopool \
    STENOPOOL_CACHE=/tmp/stenopool \
    HF_HOME=/models
USER 10001:10001
WORKDIR /var/lib/stenopool
STOPSIGNAL SIGTERM
ENTRYPOINT ["stenopool"]
CMD ["--help"]
