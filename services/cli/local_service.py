"""The service that a command talks to: the one at an address, the one on this machine, or our own.

Two commands may find no service at the same moment. The folder's lock decides which of them starts
one; the other uses that, and goes on with one of its own when that has ended with its command.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, TypeVar

from .app import console, say, settings_of_environment

if TYPE_CHECKING:
    from impasto.shared.settings import Settings

    from ..client import Client
    from ..embedded import Embedded

T = TypeVar("T")

_START_SECONDS = 60.0  # within which another process that has the folder answers
_POLL_SECONDS = 0.1
_STUCK_SECONDS = 10.0  # so long a service on this machine may be unable to render
_GONE_SECONDS = 2.0  # after which a service that another command started is taken to have ended


class _Kind(Enum):
    STANDING = auto()  # it was there, and stays
    OWN = auto()
    ANOTHERS = auto()  # started by another command, with which it ends


@dataclass(frozen=True)
class _Service:
    url: str
    kind: _Kind = _Kind.STANDING


@contextmanager
def connected(address: str | None, *, starts_own: bool = False) -> Iterator["Client"]:
    """A client of the server at the address, or of the one on this machine.

    starts_own: whether a service that renders nothing is started to read what an earlier one left.
    """
    from ..client import Client

    if address:
        with Client(address) as client:
            yield client
        return
    settings = settings_of_environment()
    with ExitStack() as stack:
        service = _Service(settings.local_url)
        if starts_own and (settings.home / "lock").exists():
            service = stack.enter_context(_found_or_started(settings, renders=False))
        yield stack.enter_context(Client(service.url))


def with_renderer(address: str | None, act: Callable[["Client"], T]) -> T:
    """What `act` gives, with a service that renders; on this machine one is started if need be.

    act: is begun again with another service where that of another command has ended with it.
    """
    from ..client import Client, Unreachable

    if address:
        with Client(address) as client:
            return act(client)
    settings = settings_of_environment()
    while True:
        with (
            _found_or_started(settings, renders=True) as service,
            Client(service.url, **_patience(service)) as client,
        ):
            try:
                return act(client)
            except Unreachable:
                if service.kind is not _Kind.ANOTHERS:
                    raise
                say("the service that another command had started has ended: going on")


@contextmanager
def _found_or_started(settings: "Settings", *, renders: bool) -> Iterator[_Service]:
    if _answers(settings.local_url):
        yield _Service(settings.local_url)
        return
    from ..embedded import HomeInUse

    give_up_at = time.monotonic() + _START_SECONDS
    with ExitStack() as stack:
        while True:
            try:
                own = stack.enter_context(_own(settings, renders=renders))
            except HomeInUse as error:
                if error.url and _answers(error.url):
                    yield _Service(error.url, _Kind.ANOTHERS)
                    return
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(_POLL_SECONDS)  # it starts, or it is about to end
            else:
                break
        if renders:
            say(f"no server is running: starting one for this picture, in {settings.home}")
            with console(stderr=True).status("loading the network"):
                own.worker.result()
        yield _Service(own.url, _Kind.OWN)


def _patience(service: _Service) -> dict[str, Any]:
    """How long a client waits for what may not come."""
    from ..client import Backoff

    match service.kind:
        case _Kind.STANDING:
            return {}
        case _Kind.OWN:
            return {"stuck_seconds": _STUCK_SECONDS}
    return {
        "stuck_seconds": _STUCK_SECONDS,
        "watch_seconds": _GONE_SECONDS,
        "backoff": Backoff(patience_seconds=_GONE_SECONDS),
    }


def _own(settings: "Settings", *, renders: bool) -> "Embedded":
    from impasto.shared import logs

    from ..embedded import Embedded

    changes: dict[str, Any] = {"host": "127.0.0.1", "port": 0}
    if "log_level" not in settings.model_fields_set:
        changes["log_level"] = "error"  # the rest would disturb the progress bar
    settings = settings.model_copy(update=changes)
    logs.configure(settings)
    return Embedded(settings, renders=renders)


def _answers(url: str) -> bool:
    from ..client import Client

    with Client(url) as client:
        return client.answers()
