"""Specs of pictures that are nowhere but in a digest."""

from typing import Any

from impasto.shared import object_keys
from impasto.shared.spec import JobSpec

BYTES = b"a picture"
ASSET = object_keys.digest(BYTES)
CANVAS = (512, 384)


def spec(**fields: Any) -> JobSpec:
    return JobSpec.model_validate({"content": ASSET, "styles": [ASSET], **fields})
