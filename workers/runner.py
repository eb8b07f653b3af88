"""How an attempt ends: every outcome of a render as one fenced move of its job."""

import random
import threading
from dataclasses import dataclass

import structlog

from shared import errors
from shared.database import jobs
from workers.attempt import Attempt, Studio
from workers.engine.errors import Diverged, EngineError, LoopClosed, OutOfMemory
from workers.engine.memory import is_exhausted

_log = structlog.get_logger(__name__)

_RETRY_FIRST_SECONDS, _RETRY_MAX_SECONDS = 5.0, 300.0
_OUTAGE_SECONDS = 5.0  # the pause before a job is claimed again that an outage interrupted

# Another attempt would end the same way.
_FINAL = (errors.RenderFailed, errors.InvalidImage, errors.InvalidSpec, errors.ObjectNotFound)


@dataclass(frozen=True)
class Runner:
    """Brings claimed jobs to their end, or back into the queue."""

    studio: Studio

    def run(self, job: jobs.Job, stopping: threading.Event) -> None:
        """Render the job; hand it back as soon as the event is set."""
        log = _log.bind(job=job.id, attempt=job.attempt)
        try:
            end = self._render(job, stopping)
            log.info("attempt_ended", end=end)
        except errors.LeaseLost as error:
            log.warning("lease_lost", detail=error.detail)
        except errors.Unavailable as error:
            # Not even the end could be written. The lease runs out, and the job is taken back.
            log.error("end_not_written", detail=error.detail)

    def _render(self, job: jobs.Job, stopping: threading.Event) -> str:
        database, claim = self.studio.database, job.claim
        try:
            result = Attempt(self.studio, job, stopping).render()
        except errors.LeaseLost:
            raise
        except errors.Cancelled:
            jobs.acknowledge_cancel(database, claim)
            return "cancelled"
        except (errors.HandedBack, LoopClosed):
            jobs.hand_back(database, claim)
            return "handed_back"
        except errors.Unavailable as error:
            _log.warning("outage", job=job.id, detail=error.detail)
            jobs.hand_back(database, claim, after_seconds=_OUTAGE_SECONDS)
            return "handed_back"
        except Exception as error:
            _log.exception("attempt_failed", job=job.id, attempt=job.attempt)
            return self._fail(job, error)
        jobs.succeed(database, claim, result)
        return "succeeded"

    def _fail(self, job: jobs.Job, error: Exception) -> str:
        problem = translated(error)
        if isinstance(error, (*_FINAL, EngineError)):
            jobs.fail(self.studio.database, job.claim, problem)
            return "failed"
        pause = min(_RETRY_MAX_SECONDS, _RETRY_FIRST_SECONDS * 2**job.failures)
        jobs.retry(self.studio.database, job.claim, problem, after_seconds=random.uniform(0, pause))
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
    if isinstance(error, OutOfMemory) or is_exhausted(error):
        return errors.OutOfMemory(f"{errors.OutOfMemory.__doc__} A smaller size needs less.")
    return errors.RenderFailed(f"{type(error).__name__}: {error}")
