"""The documents that clients see. One status document, wherever a job's status is told."""

from .assets import AssetDocument, asset_url
from .base import Located, Problem, Tagged
from .health import Index, Liveness, Readiness, Workers
from .jobs import JobDocument, JobPage, JobSummary, job_url
from .manifest import Manifest

__all__ = [
    "AssetDocument",
    "Index",
    "JobDocument",
    "JobPage",
    "JobSummary",
    "Liveness",
    "Located",
    "Manifest",
    "Problem",
    "Readiness",
    "Tagged",
    "Workers",
    "asset_url",
    "job_url",
]
