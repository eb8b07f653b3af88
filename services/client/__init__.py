"""The Python client: upload pictures, submit jobs, watch them, keep what they made.

It needs neither the server's packages nor torch.
"""

from impasto.shared.errors import Cancelled, ImpastoError, InvalidSpec
from impasto.shared.spec import JobSpec

from .client import Client, Job
from .connection import Backoff
from .documents import JobDocument, JobSummary
from .errors import ApiError, JobFailed, NotServed, Unreachable
from .orders import Order, Picture

__all__ = [
    "ApiError",
    "Backoff",
    "Cancelled",
    "Client",
    "ImpastoError",
    "InvalidSpec",
    "Job",
    "JobDocument",
    "JobFailed",
    "JobSpec",
    "JobSummary",
    "NotServed",
    "Order",
    "Picture",
    "Unreachable",
]
