"""What a fork of the zygote becomes: a worker, a reconciler or an API, as it is deployed.

All of it is the real thing, but for the engine's render, whose place `chain.Chain` takes where the
order says so, and for what a mutant breaks on purpose.
"""

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace

# Not needed here, but by what is played; whoever is forked has them already.
import boto3.session
import botocore.loaders
import celery.__main__
import celery.apps.worker
import celery.bin.celery
import celery.concurrency.thread
import celery.worker.components
import celery.worker.consumer
import kombu.transport.redis  # noqa: F401
import psycopg  # noqa: F401
import waitress

import impasto.services.reconciler.__main__
import impasto.workers.tasks
from impasto.services.api import wsgi
from impasto.shared import settings
from impasto.workers import bootstrap, weights
from tests.chaos import mutants, tells
from tests.chaos.chain import Chain


def play(
    role: str,
    environment: Mapping[str, str],
    log: str,
    *,
    is_chain: bool,
    mutant: str | None,
) -> None:
    """Be that process until it ends.

    environment: what it finds beside what we have.
    log: the file for its stdout and stderr.
    mutant: what is broken in it, by its name in `mutants`.
    """
    os.environ.update(environment)
    _redirect(log)
    if is_chain:
        _render_chains()
    if address := os.environ.get(tells.TELLS):
        tells.tell_uploads(address)
    if mutant:
        mutants.MUTANTS[mutant]()
    ROLES[role]()


def warm() -> None:
    """Read now what each fork would read again: half of what starting a worker costs."""
    load_file = botocore.loaders.JSONFileLoader.load_file
    files = cache(lambda path: load_file(botocore.loaders.JSONFileLoader(), path))
    botocore.loaders.JSONFileLoader.load_file = lambda _, path: files(path)
    boto3.session.Session().client("s3", region_name="us-east-1")
    load = cache(lambda source: weights.load(source, Path("nowhere"), fetch=lambda _: b""))
    bootstrap.weights = SimpleNamespace(load=lambda source, *_, **__: load(source))
    load("caffe")


def _worker() -> None:
    sys.argv = ["celery", "-A", "impasto.workers", "worker"]
    celery.__main__.main()


def _reconciler() -> None:
    impasto.services.reconciler.__main__.main()


def _api() -> None:
    loaded = settings.load()
    waitress.serve(
        wsgi.application(), host=loaded.host, port=loaded.port, threads=8, connection_limit=200
    )


ROLES: Mapping[str, Callable[[], None]] = {
    "worker": _worker,
    "reconciler": _reconciler,
    "api": _api,
}


def _render_chains() -> None:
    opened = bootstrap.open_context

    def open_context(*args: object) -> object:
        context = opened(*args)
        return dataclasses.replace(
            context, make=lambda plan, content, styles, _init: Chain(plan, content, styles)
        )

    bootstrap.open_context = open_context


def _redirect(log: str) -> None:
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for ours, theirs in ((nothing, 0), (target, 1), (target, 2)):
        os.dup2(ours, theirs)
    os.close(target)
    os.close(nothing)
