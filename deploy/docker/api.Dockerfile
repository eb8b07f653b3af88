# The API, the reconciler and `impasto migrate`: all of the service that needs no torch.

FROM python:3.13-slim-trixie AS build
WORKDIR /src
RUN python -m venv /opt/impasto
ENV PATH=/opt/impasto/bin:$PATH
# Without our code first: it changes more often than what it depends on.
COPY pyproject.toml constraints.txt README.md ./
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    pip install --constraint constraints.txt ".[api,s3,postgres,client]"
COPY impasto impasto
COPY services services
COPY shared shared
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    pip install --no-deps --force-reinstall .

FROM python:3.13-slim-trixie
LABEL org.opencontainers.image.title="impasto-api" \
      org.opencontainers.image.description="Neural style transfer as a service: its HTTP side" \
      org.opencontainers.image.licenses="MIT"
RUN useradd --uid 10001 --user-group --create-home impasto
COPY --from=build /opt/impasto /opt/impasto
WORKDIR /app
COPY deploy/gunicorn.conf.py deploy/
ENV PATH=/opt/impasto/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    WEB_CONCURRENCY=2
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --start-interval=1s \
    CMD ["python", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 8000, timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
CMD ["gunicorn", "--config", "deploy/gunicorn.conf.py", "--bind", "0.0.0.0:8000"]
