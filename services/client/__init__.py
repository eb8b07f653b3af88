"""The Python client: upload pictures, submit jobs, watch them, keep what they made.

It needs neither the server's packages nor torch.
"""

from impasto.services.client.client import Client, Job
from impasto.services.client.connection import Backoff
from impasto.services.client.documents import JobDocument, JobSummary
from impasto.services.client.errors import ApiError, JobFailed, NotServed, Unreachable
from impasto.services.client.orders import Order, Picture
from impasto.shared.errors import Cancelled, ImpastoError, InvalidSpec
from impasto.shared.spec import JobSpec

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
