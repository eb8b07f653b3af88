"""The keys of objects in the storage. A job's keys name its attempt: nothing is overwritten."""

import hashlib
from collections.abc import Mapping
from typing import Any

SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}


def digest(data: bytes) -> str:
    """The SHA-256 of some bytes, in hex: an asset's id, and how an object is verified."""
    return hashlib.sha256(data).hexdigest()


def asset(asset_id: str) -> str:
    return f"assets/{asset_id[:2]}/{asset_id}"


def keys_of_result(result: Mapping[str, Any] | None) -> set[str]:
    """The keys that a job's result points to: the picture, its losses, its manifest."""
    named = {"key", "losses_key", "manifest_key"}
    return {key for name, key in (result or {}).items() if name in named}


def attempt(job_id: str, number: int, claim_id: str) -> str:
    """The prefix of all objects of one attempt."""
    return f"jobs/{job_id}/{number}-{claim_id}"


def snapshot(folder: str, iteration: int, media_type: str = "image/jpeg") -> str:
    return f"{folder}/snapshots/{iteration:06d}{SUFFIXES[media_type]}"


def media_type(key: str) -> str:
    """Of the picture under a key."""
    return next(kind for kind, suffix in SUFFIXES.items() if key.endswith(suffix))


def result(folder: str, media_type: str) -> str:
    return f"{folder}/result{SUFFIXES[media_type]}"


def losses(folder: str) -> str:
    return f"{folder}/losses.csv"


def manifest(folder: str) -> str:
    return f"{folder}/manifest.json"


def checkpoint(folder: str, iteration: int) -> str:
    return f"{folder}/checkpoints/{iteration:06d}.safetensors"
