"""Checkpoints: a render's whole state as a file, from which another attempt goes on.

A file is safetensors: the tensors of `Render.state_dict()`, the losses so far, and in the header
what they belong to. There is no random state in it: what a seed decides is decided at the start.
"""

import json
import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from typing import Literal, Self

import numpy as np
import safetensors.numpy
import structlog
import torch
from safetensors import SafetensorError
from torch import Tensor

from impasto.shared import metrics, object_keys
from impasto.shared.database import Database, jobs
from impasto.shared.errors import ImpastoError, LeaseLost, ObjectNotFound, Unavailable
from impasto.shared.storage import Storage

from .engine.layers import Precision
from .engine.objective.balance import Factors
from .engine.objective.objective import Losses
from .engine.render.pyramid import Level
from .engine.render.render import Progress

_log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/octet-stream"
VERSIONS = ("impasto", "torch", "numpy", "pillow")
_FORMAT = 4  # of what we put into a file; rises when older ones can no longer be read
_HEADER = "impasto"
_HISTORY = "history"  # (n, 15): a `Progress` in each row, without `iterations`
_STATE = "state."  # prefix of the render's own tensors

_EXACT = {"device": "cpu", "precision": "float32"}  # elsewhere nobody has compared the bits

Continuation = Literal["exact", "approximate"]


class Unusable(ImpastoError):
    """The checkpoint cannot be continued."""

    code = "checkpoint_unusable"


@dataclass(frozen=True)
class Provenance:
    """What a state belongs to: a picture, a network, and the place that computes it.

    place: where it differs, the last bits of what follows may.
    continuation: approximate once any attempt went on in another place than the one before it.
    """

    spec_digest: str
    weights_digest: str
    place: Mapping[str, str | int]
    continuation: Continuation = "exact"

    def after(self, earlier: Self) -> Self:
        """This origin, going on from a state of an earlier one.

        Raises Unusable if that was on its way to another picture.
        """
        for name in ("spec_digest", "weights_digest"):
            here, there = getattr(self, name), getattr(earlier, name)
            if here != there:
                raise Unusable(f"its {name} is {there}, this attempt's {here}")
        is_same = earlier.continuation == "exact" and earlier.place == self.place
        is_exact = is_same and _EXACT.items() <= self.place.items()
        return replace(self, continuation="exact" if is_exact else "approximate")


@dataclass(frozen=True, eq=False)
class Saved:
    """A render's state, its losses up to it, and what it belongs to."""

    state: Mapping[str, Tensor]
    history: Sequence[Progress]
    provenance: Provenance

    @property
    def iteration(self) -> int:
        return int(self.state["iteration"])


def environment_fingerprint(device: torch.device, precision: Precision) -> dict[str, str | int]:
    """All that may change the last bits of an iteration, beside its inputs."""
    is_cuda = device.type == "cuda"
    return {
        "device": device.type,
        "hardware": torch.cuda.get_device_name(device)
        if is_cuda
        else f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "precision": precision,
        "threads": torch.get_num_threads(),
        **{name: metadata.version(name) for name in VERSIONS},
    }


def encode(saved: Saved) -> bytes:
    tensors = {_STATE + name: t.contiguous().numpy() for name, t in saved.state.items()}
    tensors[_HISTORY] = np.array([_to_row(entry) for entry in saved.history], dtype=np.float64)
    header = {"format": _FORMAT, **asdict(saved.provenance)}
    return safetensors.numpy.save(tensors, metadata={_HEADER: json.dumps(header)})


def decode(data: bytes, iterations: int) -> Saved:
    """The checkpoint in a file.

    iterations: how many its render is to make.
    Raises Unusable.
    """
    try:
        tensors = safetensors.numpy.load(data)
        length = int.from_bytes(data[:8], "little")
        header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_HEADER])
        if (found := header.pop("format")) != _FORMAT:
            raise Unusable(f"its format is {found}, accepted: {_FORMAT}")
        history = [_from_row(row, iterations) for row in tensors.pop(_HISTORY).tolist()]
        state = {name.removeprefix(_STATE): torch.from_numpy(t) for name, t in tensors.items()}
        return Saved(state, history, Provenance(**header))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise Unusable(f"{type(error).__name__}: {error}") from error


def _to_row(entry: Progress) -> list[float]:
    numbers = entry.iteration, entry.seconds, entry.best
    *size, factors = entry.level
    return [*numbers, *entry.losses, *entry.evaluated, *size, *factors]


def _from_row(row: list[float], iterations: int) -> Progress:
    (iteration, seconds, best), losses, evaluated, level = row[:3], row[3:7], row[7:11], row[11:]
    number, height, width, *factors = level
    return Progress(
        int(iteration),
        iterations,
        Losses(*losses),
        seconds,
        int(best),
        Losses(*evaluated),
        Level(int(number), int(height), int(width), Factors(*factors)),
    )


def fetch(storage: Storage, kept: jobs.Checkpoint, iterations: int) -> Saved:
    """The checkpoint that a row points to. Raises Unusable or Unavailable."""
    try:
        data = storage.get(kept.key)
    except ObjectNotFound as error:
        raise Unusable(error.detail) from error
    if (found := object_keys.digest(data)) != kept.sha256:
        raise Unusable(f"its SHA-256 is {found}, expected {kept.sha256}")
    return decode(data, iterations)


class Checkpoints:
    """Encodes and uploads states, one at a time, on its own thread.

    A checkpoint that cannot be kept is not worth the render: that is logged, and it goes on.
    """

    def __init__(self, database: Database, storage: Storage, claim: jobs.Claim) -> None:
        self._database = database
        self._storage = storage
        self._claim = claim
        self._folder = object_keys.attempt(claim.job_id, claim.attempt, claim.claim_id)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._last: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Not waited for: a result needs no checkpoint, and a lease that is lost must not keep one.
        self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def is_busy(self) -> bool:
        return self._last is not None and not self._last.done()

    def keep(self, saved: Saved) -> None:
        self._last = self._thread.submit(self._keep, saved)

    def wait(self, timeout_seconds: float) -> None:
        """Until the last one is kept, or lost. Raises TimeoutError."""
        if self._last:
            self._last.result(timeout_seconds)

    def _keep(self, saved: Saved) -> None:
        iteration = saved.iteration
        log = _log.bind(job=self._claim.job_id, iteration=iteration)
        try:
            data = encode(saved)
            key = object_keys.checkpoint(self._folder, iteration)
            self._storage.put(key, data, MEDIA_TYPE)
            kept = jobs.Checkpoint(
                self._claim.attempt, iteration, key, object_keys.digest(data), len(data)
            )
            jobs.add_checkpoint(self._database, self._claim, kept)
        except (LeaseLost, Unavailable) as error:
            log.warning("checkpoint_lost", detail=error.detail)
        except Exception:
            metrics.unexpected(log, "checkpoint_lost")
