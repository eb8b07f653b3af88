"""The name of what a spec means: equal meaning, equal digest, however it was written."""

import hashlib
import json
from typing import Any

from .limits import SPEC_VERSION
from .render import RenderSpec


def digest(spec: RenderSpec) -> str:
    meaning = {"version": SPEC_VERSION, **spec.model_dump()}
    del meaning["recipe"]  # its fields say it
    if spec.init != "noise":
        del meaning["seed"]  # nothing else is random
    if spec.format == "png":
        del meaning["quality"]  # nothing is lost
    canonical = json.dumps(_rounded(meaning), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _rounded(value: Any) -> Any:
    # 1/3 + 1/3 + 1/3 and 1.0 are the same share, whatever the last bits say.
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.12g}") + 0.0 if isinstance(value, float) else value  # -0.0 is 0.0
