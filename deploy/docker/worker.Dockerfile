# A worker. DEVICE=cuda has torch as the index gives it, which renders on the CPU, too;
# DEVICE=cpu leaves out what only a GPU uses, two thirds of the image.

FROM python:3.13-slim-trixie AS build
WORKDIR /src
RUN python -m venv /opt/impasto
ENV PATH=/opt/impasto/bin:$PATH
# Without our code first: gigabytes that seldom change.
COPY pyproject.toml constraints.txt README.md ./
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    pip install --constraint constraints.txt ".[worker,s3,postgres]"
# Below what both have in common.
ARG DEVICE=cuda
COPY deploy/docker/without_gpu.py ./
# hadolint ignore=DL3008
RUN if [ "$DEVICE" = cpu ]; then \
        apt-get update && apt-get install --yes --no-install-recommends binutils \
        && python without_gpu.py && python -c "import torch" \
        && rm -rf /var/lib/apt/lists/*; \
    fi
COPY impasto impasto
COPY shared shared
COPY workers workers
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    pip install --no-deps --force-reinstall .

FROM python:3.13-slim-trixie
LABEL org.opencontainers.image.title="impasto-worker" \
      org.opencontainers.image.description="Neural style transfer as a service: what renders" \
      org.opencontainers.image.licenses="MIT"
RUN useradd --uid 10001 --user-group --create-home impasto
COPY --from=build /opt/impasto /opt/impasto
# Large pages under what glibc hands out: on two cores a step at 256 px takes 0.91 of the time.
ENV PATH=/opt/impasto/bin:$PATH \
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \
    PYTHONUNBUFFERED=1 \
    IMPASTO_ALIVE_FILE=/tmp/alive
WORKDIR /home/impasto
USER 10001:10001
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --start-interval=2s \
    CMD ["sh", "-c", "find $IMPASTO_ALIVE_FILE -mmin -1 | grep -q ."]
CMD ["celery", "-A", "impasto.workers", "worker", "--loglevel", "INFO"]
