# A worker with an engine. On CPUs, or with CUDA, which comes in JAX's own wheels: the host needs the driver and the
# NVIDIA container toolkit, and nothing else.
#   docker build -f infra/docker/engine.Dockerfile -t stenopool-engine .
#   docker build -f infra/docker/engine.Dockerfile -t stenopool-engine:cuda --build-arg DEVICE=cuda .
# Where packages come from another index than PyPI, its address and password are a secret, and in no layer of the image:
#   --secret id=pip,src=$HOME/.config/pip/pip.conf

# Pin it in production: --build-arg PYTHON_IMAGE=python:3.12-slim-bookworm@sha256:...
ARG PYTHON_IMAGE=python:3.12-slim-bookworm
# cpu or cuda
ARG DEVICE=cpu

FROM ${PYTHON_IMAGE} AS cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/stenopool
WORKDIR /src
COPY requirements.lock ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    /opt/stenopool/bin/pip install --require-hashes --only-binary=:all: -r requirements.lock

FROM cpu AS cuda
COPY infra/docker/cuda.lock ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    /opt/stenopool/bin/pip install --require-hashes --only-binary=:all: -r cuda.lock

# hadolint ignore=DL3006
FROM ${DEVICE} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY stenopool stenopool
COPY workers workers
COPY scheduler scheduler
COPY storage storage
COPY models models
RUN /opt/stenopool/bin/pip install --no-deps --no-build-isolation .

FROM ${PYTHON_IMAGE}
RUN groupadd --gid 10001 stenopool \
    && useradd --uid 10001 --gid 10001 --create-home --home-dir /var/lib/stenopool stenopool \
    && install -d -o 10001 -g 10001 /models /cache /scratch
COPY --from=build /opt/stenopool /opt/stenopool
# Of the driver: to compute, and to be asked how it is. Without a GPU they say nothing.
ENV PATH=/opt/stenopool/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    STENOPOOL_HOME=/var/lib/stenopool \
    STENOPOOL_CACHE=/cache \
    HF_HOME=/models
USER 10001:10001
WORKDIR /var/lib/stenopool
STOPSIGNAL SIGTERM
ENTRYPOINT ["stenopool"]
CMD ["--help"]
