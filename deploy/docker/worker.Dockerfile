# syntax=docker/dockerfile:1
# A worker. Torch as the index gives it: on x86-64 it brings CUDA along, and renders on the CPU, too.

FROM python:3.13-slim-trixie AS build
WORKDIR /src
RUN python -m venv /opt/impasto
ENV PATH=/opt/impasto/bin:$PATH
# Without our code first: gigabytes that seldom change.
COPY pyproject.toml constraints.txt README.md ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint constraints.txt ".[worker,s3,postgres]"
COPY shared shared
COPY workers workers
RUN --mount=type=cache,target=/root/.cache/pip \
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
CMD ["celery", "-A", "workers", "worker", "--loglevel", "INFO"]
