"""What decides how a job is treated, beside the picture."""

from typing import Annotated, Literal

from pydantic import Field

from .digest import digest
from .limits import ITERATIONS_MAX
from .render import RenderSpec

LABEL_NAME = r"[A-Za-z0-9_./-]{1,200}"  # no colon: the API's filter is name:value
LABEL_VALUE = r"[^\x00-\x1f\x7f]{1,200}"  # Postgres, for one, keeps no NUL
LabelName = Annotated[
    str,
    Field(pattern=f"^{LABEL_NAME}$", description="1 to 200 letters, digits and any of _ . / -"),
]
LabelValue = Annotated[
    str,
    Field(pattern=f"^{LABEL_VALUE}$", description="1 to 200 characters, no control characters"),
]


class JobSpec(RenderSpec):
    """What a client submits: the picture, and how the job is to be treated."""

    snapshot_every: int = Field(
        default=50,
        ge=0,
        le=ITERATIONS_MAX,
        description="A picture of the progress after every so many iterations; 0 for none.",
    )
    snapshot_format: Literal["jpeg", "png"] = Field(
        default="jpeg",
        description="Of the pictures of the progress: jpeg is small, png is lossless.",
    )
    exact: bool = Field(
        default=False,
        description="Shares no pass with other renders: on a GPU a batch may change the last"
        " bits of a picture; in float32 on a CPU it changes none.",
    )
    priority: int = Field(default=0, ge=-100, le=100, description="Higher is rendered first.")
    labels: dict[LabelName, LabelValue] = Field(
        default={}, max_length=16, description="Your own words, to find the job again by."
    )
    deadline_seconds: float | None = Field(
        default=None,
        gt=0,
        le=30 * 86400,
        description="After so many seconds from submission the job fails instead of going on.",
    )

    def render_spec(self) -> RenderSpec:
        return RenderSpec.model_validate(self.model_dump(include=set(RenderSpec.model_fields)))

    def digest(self) -> str:
        """The SHA-256, in hex, of what decides the picture: equal meaning, equal digest."""
        return digest(self.render_spec())
