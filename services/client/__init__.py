"""The Python client: upload pictures, submit jobs, watch them, keep what they made.

It needs neither the server's packages nor torch.
"""

from services.client.client import Client, Job
from services.client.connection import Backoff
from services.client.documents import JobDocument, JobSummary
from services.client.errors import ApiError, JobFailed, NotServed, Unreachable
from services.client.orders import Order, Picture
from shared.errors import Cancelled, ImpastoError, InvalidSpec
from shared.spec import JobSpec

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
