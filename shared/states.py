"""The life of a job: its states, and the one table of legal moves."""

from enum import StrEnum


class State(StrEnum):
    """Where a job stands. A cancel request and lateness are columns, not states."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Phase(StrEnum):
    """What a running attempt is busy with, for people to read."""

    LOADING = "loading"
    RENDERING = "rendering"
    SAVING = "saving"


class End(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    HANDED_BACK = "handed_back"
    LEASE_EXPIRED = "lease_expired"
    RETRIED = "retried"


class WorkerState(StrEnum):
    """What a worker tells of itself. Whether it is alive is another question: its lease says so."""

    STARTING = "starting"  # it loads its weights
    READY = "ready"
    NOT_READY = "not_ready"  # nothing that it renders could be made or kept
    DRAINING = "draining"  # it was told to stop


class Wait(StrEnum):
    """Why a queued job is claimed by no worker at this moment.

    Where all workers that are alive are not ready, the reason is the `code` of what they told.
    """

    PAUSED = "paused"  # until it is tried again
    OVERDUE = "overdue"
    NO_WORKER = "no_worker"
    STARTING = "starting"
    BUSY = "busy"
    TOO_LARGE = "too_large"
    DRAINING = "draining"


MOVES: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.RUNNING, State.CANCELLED, State.FAILED}),
    State.RUNNING: frozenset({State.QUEUED, State.SUCCEEDED, State.FAILED, State.CANCELLED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
}

TERMINAL = frozenset(state for state, moves in MOVES.items() if not moves)
