"""For whoever keeps the service running: does it live, can it serve?"""

from collections.abc import Callable
from importlib.metadata import version

from apiflask import APIBlueprint
from flask import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from impasto.shared.database import schema, workers
from impasto.shared.errors import ImpastoError, Unavailable, Violation

from ..schemas import Index, Liveness, Readiness, Workers
from . import openapi, problems
from .connections import connections

health = APIBlueprint("health", __name__, tag="Health")


@health.get("/")
@health.output(Index, description="Where things are.")
def index() -> Index:
    """Tell what there is.

    The addresses from which all others follow.
    """
    links = {"jobs": "/v1/jobs", "assets": "/v1/assets", "openapi": "/openapi.json"}
    return Index(name="Impasto", version=version("impasto"), links=links)


@health.get("/healthz")
@health.output(Liveness, description="It does.")
def alive() -> Liveness:
    """Tell whether the process lives.

    It asks neither database nor storage: a process without them need not be replaced.
    """
    return Liveness()


@health.get("/metrics")
@health.doc(responses={200: openapi.text("The counts.", "text/plain")})
def metrics() -> Response:
    """Tell what this process has counted.

    For Prometheus, in its text format.
    """
    return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)


@health.get("/readyz")
@health.output(Readiness, description="It can.")
@health.doc(responses=openapi.refusals(Unavailable))
def ready() -> Readiness | Response:
    """Tell whether requests can be served, and what is in the way.

    It asks the database, the storage and the broker. It does not depend on the workers, whose
    number it tells: what is submitted waits for them.
    """
    here = connections()
    wrong = []
    checks: dict[str, Callable[[], None]] = {
        "database": lambda: schema.check(here.database),
        "storage": here.storage.check,
    }
    for name, check in checks.items():
        try:
            check()
        except ImpastoError as error:
            wrong.append(Violation(name, error.detail, f"a {name} that answers, up to date"))
    if wrong:
        return problems.respond(Unavailable(violations=wrong).problem())
    broker = here.wakeups.check()
    fleet = workers.fleet(here.database)
    ready = sum(group.workers for group in fleet.ready)
    return Readiness(
        database="ok",
        storage="ok",
        broker=broker or "ok",
        workers=Workers(alive=fleet.alive, ready=ready),
    )
