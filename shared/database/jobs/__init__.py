"""The life of a job: each legal move of `impasto.shared.states` as one conditional statement.

clients submit jobs, look at them, and cancel them
attempts claim them, report, point to what they stored, and end
expiry requeues those whose worker is gone
"""

from .attempts import (
    acknowledge_cancel,
    add_checkpoint,
    add_snapshot,
    checkpoints,
    claim,
    discard_checkpoint,
    fail,
    hand_back,
    read_claimed,
    reclaim,
    report,
    resume,
    retry,
    succeed,
)
from .clients import (
    find_by_idempotency_key,
    get,
    list_jobs,
    request_cancel,
    submit,
    view,
)
from .expiry import fail_overdue, requeue_expired, requeue_from
from .fence import ATTEMPTS_MAX, FAILURES_MAX
from .records import (
    Attempt,
    Checkpoint,
    Claim,
    Job,
    JobWarning,
    Progress,
    Snapshot,
    View,
)
from .waiting import count_runnable

__all__ = [
    "ATTEMPTS_MAX",
    "FAILURES_MAX",
    "Attempt",
    "Checkpoint",
    "Claim",
    "Job",
    "JobWarning",
    "Progress",
    "Snapshot",
    "View",
    "acknowledge_cancel",
    "add_checkpoint",
    "add_snapshot",
    "checkpoints",
    "claim",
    "count_runnable",
    "discard_checkpoint",
    "fail",
    "fail_overdue",
    "find_by_idempotency_key",
    "get",
    "hand_back",
    "list_jobs",
    "read_claimed",
    "reclaim",
    "report",
    "request_cancel",
    "requeue_expired",
    "requeue_from",
    "resume",
    "retry",
    "submit",
    "succeed",
    "view",
]
