"""What a client asks for: every field with its unit, bound, default and a sentence.

`RenderSpec` holds what decides the picture, and its digest names that meaning: two specs that ask
for the same picture have the same digest, however they were written. `JobSpec` adds what decides
only how the job is treated.
"""

from .digest import digest
from .job import LABEL_NAME, LABEL_VALUE, JobSpec
from .layers import LAYERS
from .limits import (
    PICTURE_SIDE_MIN,
    SHORT_SIDE_MIN,
    SIZE,
    SIZE_MAX,
    STRENGTH,
    STYLE_WEIGHT,
    STYLES_MAX,
)
from .render import Format, RenderSpec, overridden
from .style import Style

__all__ = [
    "LABEL_NAME",
    "LABEL_VALUE",
    "LAYERS",
    "PICTURE_SIDE_MIN",
    "SHORT_SIDE_MIN",
    "SIZE",
    "SIZE_MAX",
    "STRENGTH",
    "STYLES_MAX",
    "STYLE_WEIGHT",
    "Format",
    "JobSpec",
    "RenderSpec",
    "Style",
    "digest",
    "overridden",
]
