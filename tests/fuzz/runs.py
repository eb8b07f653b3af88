"""What mutated pictures and bombs do to the decoders, and to an API that serves."""

import http.client
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from impasto.shared.errors import ImpastoError, InvalidImage
from impasto.shared.pictures.pool import Decoders
from tests.arrange.pictures import paint
from tests.arrange.processes import decoders_of
from tests.fuzz.mutations import mutated
from tests.servers.server import LOCALHOST

MAX_PIXELS = 100_000_000
MEMORY_BYTES_MAX = 512 * 2**20
ANSWER_SECONDS_MAX = 10.0
BESIDE_SECONDS_MAX = 1.0

_THREADS = 2
ACCEPTED = "accepted"

_DECODED_SIDE = 32
_BOUNDARY = "a-boundary-that-no-picture-holds"
_TOOK_TOO_MUCH = "takes more than"


@dataclass
class Verdict:
    """What was seen. `faults` are what must not be."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0
    slowest: str = ""
    beside_seconds: float = 0.0
    memory_bytes: int = 0

    def time(self, name: str, seconds: float) -> None:
        if seconds > self.slowest_seconds:
            self.slowest_seconds, self.slowest = seconds, name

    def __str__(self) -> str:
        told = ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))
        parts = [told, f"slowest answer {self.slowest_seconds:.2f} s ({self.slowest})"]
        if self.beside_seconds:
            parts.append(f"slowest small upload beside {self.beside_seconds:.2f} s")
        if self.memory_bytes:
            parts.append(f"largest child {self.memory_bytes / 2**20:.0f} MiB")
        parts += [f"{len(self.faults)} faults", *self.faults[:20]]
        return "; ".join(parts)


def check_bounds(verdict: Verdict) -> None:
    """Add a fault for each bound that was broken; the times mean little on a busy machine."""
    for what, seen, bound in (
        ("an answer took", verdict.slowest_seconds, ANSWER_SECONDS_MAX),
        ("a small upload beside took", verdict.beside_seconds, BESIDE_SECONDS_MAX),
        ("a child took", verdict.memory_bytes, MEMORY_BYTES_MAX),
    ):
        if seen > bound:
            verdict.faults.append(f"{what} {seen:.2f}, at most {bound}")


class Watch:
    """Looks at the most memory that any of some processes has had, until it is left."""

    def __init__(self, pids: Callable[[], set[int]]) -> None:
        self.memory_bytes = 0
        self._pids = pids
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()
        self._read()

    def _look(self) -> None:
        while not self._closed.wait(0.02):
            self._read()

    def _read(self) -> None:
        for pid in self._pids():
            self.memory_bytes = max(self.memory_bytes, _peak_bytes(pid))


def children(parent: int) -> set[int]:
    """The processes that decode for another, quickly found."""
    if sys.platform != "linux":
        return decoders_of(parent)
    found: set[int] = set()
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        with suppress(OSError):
            found |= {int(pid) for pid in task.read_text().split()}
    return {pid for pid in found if _decodes(pid)}


def _decodes(pid: int) -> bool:
    try:
        return b"impasto.shared.pictures.child" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _peak_bytes(pid: int) -> int:
    """The most memory that a process has had; 0 where nobody tells."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 2**10
    except (OSError, IndexError):
        return 0


# Through the decoders.


def decode(api: Decoders, worker: Decoders, count: int, seed: int) -> Verdict:
    """So many mutated pictures. What an API lets in a worker must decode."""
    verdict = Verdict()
    lock = threading.Lock()

    def look(number: int) -> None:
        name = f"picture {number}"
        data = mutated(random.Random(f"{seed}/{number}"))
        began = time.monotonic()
        end, fault = inspected(api, data)
        seconds = time.monotonic() - began
        if end == ACCEPTED:
            fault = undecoded(worker, data)
        with lock:
            verdict.counts[end] += 1
            verdict.time(name, seconds)
            if fault:
                verdict.faults.append(f"{name} of seed {seed}: {fault}")

    with ThreadPoolExecutor(_THREADS) as threads:
        for _ in threads.map(look, range(count)):
            pass
    return verdict


def inspected(decoders: Decoders, data: bytes) -> tuple[str, str]:
    """How a picture is answered, and what must not be of it."""
    try:
        decoders.inspect(data, MAX_PIXELS)
    except ImpastoError as error:
        return _refusal(error)
    return ACCEPTED, ""


def undecoded(decoders: Decoders, data: bytes) -> str:
    """Why a picture that was accepted is not decoded; empty if it is."""
    try:
        decoders.decode(data, _DECODED_SIDE)
    except ImpastoError as error:
        return f"was accepted, but then {error.detail}"
    return ""


def _refusal(error: ImpastoError) -> tuple[str, str]:
    if not isinstance(error, InvalidImage):
        return error.code, error.detail
    for death in ("crashes", "fails"):
        if f"its decoder {death}" in error.detail:
            return f"decoder {death}", f"{error.detail}: {error.violations[0].value}"
    return ("took too much" if _TOOK_TOO_MUCH in error.detail else "refused"), ""


# Through an API.


def post(port: int, count: int, seed: int) -> Verdict:
    """So many mutated pictures to an API: as a body, in a form, and as the parts of a job."""
    verdict = Verdict()
    lock = threading.Lock()

    def send_some(numbers: range) -> None:
        client = _Client(port)
        for number in numbers:
            dice = random.Random(f"{seed}/{number}")
            way = dice.choice(("body", "form", "job"))
            began = time.monotonic()
            status = client.send(way, mutated(dice))
            seconds = time.monotonic() - began
            with lock:
                verdict.counts[f"{status}"] += 1
                verdict.time(f"picture {number}", seconds)
                if status >= 500:
                    verdict.faults.append(f"picture {number} of seed {seed}: {status} as a {way}")

    with ThreadPoolExecutor(_THREADS) as threads:
        for _ in threads.map(send_some, [range(i, count, _THREADS) for i in range(_THREADS)]):
            pass
    return verdict


def explode(port: int, name: str, data: bytes, verdict: Verdict) -> str:
    """One bomb to an API, and small pictures beside it until it is answered; what was seen."""
    with ThreadPoolExecutor(1) as thread, _timed() as whole:
        answer = thread.submit(_Client(port).send, "body", data)
        beside = [_beside(port, 0)]
        while not answer.done():
            beside.append(_beside(port, len(beside)))
        status = answer.result()
        seconds = whole()
    verdict.counts[f"{status}"] += 1
    verdict.time(name, seconds)
    verdict.beside_seconds = max(verdict.beside_seconds, *(seconds for _, seconds in beside))
    if status >= 500 or any(other >= 500 for other, _ in beside):
        verdict.faults.append(f"{name}: {status}, beside {Counter(other for other, _ in beside)}")
    slowest = max(seconds for _, seconds in beside)
    return (
        f"{name}: {len(data):,} bytes, {status} after {seconds:.2f} s;"
        f" the slowest of {len(beside)} small ones beside {slowest:.2f} s"
    )


def _beside(port: int, number: int) -> tuple[int, float]:
    with _timed() as seconds:
        status = _Client(port).send("body", paint(random.randrange(2**40) + number))
        return status, seconds()


@contextmanager
def _timed() -> Iterator[Callable[[], float]]:
    began = time.monotonic()
    yield lambda: time.monotonic() - began


class _Client:
    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(LOCALHOST, port, timeout=60)

    def send(self, way: str, data: bytes) -> int:
        """The status of the answer."""
        if way == "body":
            return self._post("/v1/assets", data, "image/jpeg")
        names = ("file",) if way == "form" else ("content", "style", "mask")
        head = 'Content-Disposition: form-data; name="{0}"; filename="{0}"\r\n\r\n'
        parts = [
            f"--{_BOUNDARY}\r\n{head.format(name)}".encode() + data + b"\r\n" for name in names
        ]
        body = b"".join([*parts, f"--{_BOUNDARY}--\r\n".encode()])
        path = "/v1/assets" if way == "form" else "/v1/jobs"
        return self._post(path, body, f"multipart/form-data; boundary={_BOUNDARY}")

    def _post(self, path: str, body: bytes, media_type: str) -> int:
        self._connection.request("POST", path, body, {"Content-Type": media_type})
        answer = self._connection.getresponse()
        answer.read()
        return answer.status
