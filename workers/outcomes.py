"""How an attempt ends: every outcome of a render as one fenced move of its job."""

import random
import threading

import pydantic
import structlog

from impasto.shared import errors, metrics
from impasto.shared.database import jobs

from .attempt import Attempt, WorkerContext
from .engine.device.memory import is_exhausted
from .engine.errors import Diverged, EngineError, LoopClosed, OutOfMemory
from .lease import Lease

_log = structlog.get_logger(__name__)

_RETRY_FIRST_SECONDS, _RETRY_MAX_SECONDS = 5.0, 300.0
_OUTAGE_SECONDS = 5.0  # the pause before a job is claimed again that an outage interrupted

# Another attempt would end the same way.
_FINAL = (
    errors.RenderFailed,
    errors.InvalidImage,
    errors.InvalidSpec,
    errors.ObjectNotFound,
    pydantic.ValidationError,
)


class JobRunner:
    """Brings claimed jobs to their end, or back into the queue."""

    def __init__(self, context: WorkerContext) -> None:
        self.context = context
        self._hung_at: int | None = None  # the device's progress_counter when it was given up

    def check(self) -> None:
        """Raise Unavailable while no render could be made or kept: storage full, device hung."""
        self.context.storage.check()
        if self.context.progress_counter() == self._hung_at:
            raise errors.DeviceStalled("the device hangs")

    def run(self, job: jobs.Job, stopping: threading.Event) -> None:
        """Render the job; hand it back as soon as the event is set."""
        log = _log.bind(job=job.id, attempt=job.attempt)
        with Lease(self.context.database, job, self.context.terms, stopping) as lease:
            try:
                log.info("attempt_ended", end=self._render(job, lease))
            except errors.LeaseLost as error:
                log.warning("lease_lost", detail=error.detail)
                if lease.is_stalled:
                    self._hung_at = self.context.progress_counter()

    def _render(self, job: jobs.Job, lease: Lease) -> str:
        database, claim = self.context.database, job.claim
        try:
            result = Attempt(self.context, job, lease).render()
        except errors.LeaseLost:
            raise
        except (errors.Cancelled, errors.DeadlineExceeded) as error:
            return error.code  # which the lease has written
        except (errors.HandedBack, LoopClosed):
            lease.commit(lambda: jobs.hand_back(database, claim))
            return "handed_back"
        except errors.Unavailable as error:
            _log.warning("outage", job=job.id, detail=error.detail)
            lease.commit(lambda: jobs.hand_back(database, claim, after_seconds=_OUTAGE_SECONDS))
            return "handed_back"
        except Exception as error:
            metrics.unexpected(_log, "attempt_failed", job=job.id, attempt=job.attempt)
            return self._fail(job, lease, error)
        lease.commit(lambda: jobs.succeed(database, claim, result))
        return "succeeded"

    def _fail(self, job: jobs.Job, lease: Lease, error: Exception) -> str:
        database, problem = self.context.database, translated(error)
        if isinstance(error, (*_FINAL, EngineError)):
            lease.commit(lambda: jobs.fail(database, job.claim, problem))
            return "failed"
        limit = min(_RETRY_MAX_SECONDS, _RETRY_FIRST_SECONDS * 2**job.failures)
        pause = random.uniform(0, limit)
        lease.commit(lambda: jobs.retry(database, job.claim, problem, after_seconds=pause))
        return "retried"


def translated(error: Exception) -> errors.ImpastoError:
    """An exception as the client will read it in the job's `error`."""
    match error:
        case errors.ImpastoError():
            return error
        case Diverged():
            return errors.Diverged(f"{error}; a smaller learning_rate or style_weight may help")
        case EngineError() if not isinstance(error, OutOfMemory):
            return errors.RenderFailed(str(error))
        case pydantic.ValidationError():  # accepted by another version
            return errors.InvalidSpec(f"this worker's version cannot read it: {error}")
    if isinstance(error, OutOfMemory) or is_exhausted(error):
        return errors.OutOfMemory(f"{errors.OutOfMemory.__doc__} A smaller size needs less.")
    return errors.RenderFailed(f"{type(error).__name__}: {error}")
