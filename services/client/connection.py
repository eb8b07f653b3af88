"""Requests to one server that outlive its restarts.

Every request of this API may be repeated: reading changes nothing, pictures are addressed by their
digest, submitting carries an idempotency key, and a job that is cancelled twice is cancelled.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from importlib import metadata
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from impasto.shared.errors import InvalidSetting

from .errors import ApiError, Unreachable

_PASSING = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}

Document = TypeVar("Document", bound=BaseModel)


@dataclass(frozen=True)
class Backoff:
    """The pauses before a request is repeated: each about twice the one before.

    Chance takes up to half of each away, so that clients who lost their server together do not
    come back together.
    """

    first_seconds: float = 0.2
    longest_seconds: float = 5.0
    patience_seconds: float = 5.0  # what the pauses add up to, before giving up

    def pauses(self, chance: random.Random) -> Iterator[float]:
        pause, left = self.first_seconds, self.patience_seconds
        while left > 0:
            cut = min(pause * chance.uniform(0.5, 1), left)
            yield cut
            left -= cut
            pause = min(2 * pause, self.longest_seconds)


class Connection:
    """HTTP to one server."""

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float,
        backoff: Backoff,
        sleep: Callable[[float], None] = time.sleep,
        chance: random.Random | None = None,
    ) -> None:
        """Raises InvalidSetting unless url is an http address."""
        self.url = url.rstrip("/")
        self.backoff = backoff
        self.sleep = sleep
        self._chance = chance or random.Random()
        self._http = httpx2.Client(
            base_url=self.url,
            timeout=httpx2.Timeout(timeout_seconds, connect=min(timeout_seconds, 5)),
            headers={"User-Agent": f"impasto/{metadata.version('impasto')}"},
            trust_env=_host(url) not in _LOOPBACK,  # a proxy would look at its own loopback
        )

    def close(self) -> None:
        self._http.close()

    def send(
        self, method: str, path: str, *, backoff: Backoff | None = None, **request: Any
    ) -> httpx2.Response:
        """The answer; the request is repeated while the server is away.

        request: what httpx takes: params, headers, json, files, timeout.
        Raises ApiError for a refusal, Unreachable where nothing answers.
        """
        pauses = (backoff or self.backoff).pauses(self._chance)
        while True:
            try:
                answer = self._http.request(method, path, **request)
            except httpx2.TransportError as error:
                pause = next(pauses, None)
                if pause is None:
                    raise Unreachable(self._silence(error)) from error
            else:
                pause = next(pauses, None) if answer.status_code in _PASSING else None
                if pause is None:
                    return _checked(answer)
            self.sleep(pause)

    def _silence(self, error: httpx2.TransportError) -> str:
        why = str(error) or type(error).__name__
        return (
            f"no server answers at {self.url}: {why};"
            " start one with `impasto up`, or name the address of another"
        )


def read(kind: type[Document], answer: httpx2.Response) -> Document:
    """The document that the answer carries. Raises ApiError if it is another."""
    try:
        return kind.model_validate_json(answer.content)
    except ValidationError as error:
        raise _unexpected(answer) from error


def _host(url: str) -> str:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        parsed = httpx2.URL()
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise InvalidSetting(f"server address {url!r}: accepted: http://HOST:PORT or https://HOST")
    return parsed.host


def _checked(answer: httpx2.Response) -> httpx2.Response:
    if not (answer.is_error or answer.has_redirect_location):
        return answer
    if answer.headers.get("Content-Type", "").startswith("application/problem+json"):
        raise ApiError(answer.json())
    raise _unexpected(answer)


def _unexpected(answer: httpx2.Response) -> ApiError:
    detail = (
        f"{answer.url} answered {answer.status_code} {answer.reason_phrase}, and not as Impasto"
        " does; is the address right?"
    )
    return ApiError({"status": answer.status_code, "code": "unexpected_answer", "detail": detail})
