"""What a result was made of."""

from datetime import datetime

from pydantic import Field

from impasto.shared.states import End

from .base import Document, Spec
from .jobs import LossDocument


class ManifestWeights(Document):
    """The network's weights."""

    name: str
    sha256: str


class EffectiveWeights(Document):
    """What was weighed at the last size, by the names and in the units of a spec.

    Beside a strength, what it came to for this pair.
    """

    content_weight: float
    style_weight: float
    tv_weight: float
    content_layers: dict[str, float]
    style_layers: dict[str, float]


class ManifestResult(Document):
    """The picture."""

    sha256: str
    width: int
    height: int
    media_type: str


class ManifestAttempt(Document):
    """An attempt, as it stood when the manifest was written."""

    n: int
    resumed_from_iteration: int
    end: End | None = Field(description="None of the attempt that wrote the manifest.")


class Manifest(Document):
    """How a picture came to be; its spec, run again, gives the same one."""

    job: str
    spec: Spec
    spec_digest: str
    inputs: list[str] = Field(description="The pictures' ids.")
    weights: ManifestWeights
    effective: EffectiveWeights
    seed: int
    iterations: int
    best_iteration: int = Field(description="Of the picture: the best at the last size.")
    losses: LossDocument = Field(description="Of the picture.")
    result: ManifestResult
    attempt: int
    failures: int
    attempts: list[ManifestAttempt]
    resumed_from_iteration: int
    continuation: str = Field(description="exact, or approximate where the machine changed.")
    device: str
    precision: str
    threads: int
    platform: str
    versions: dict[str, str | int]
    times: dict[str, datetime]
