"""How the service is."""

from typing import Literal

from pydantic import Field

from .base import Document


class Liveness(Document):
    """The process lives."""

    status: Literal["ok"] = "ok"


class Workers(Document):
    """Who renders."""

    alive: int = Field(description="How many sent a heartbeat in time.")
    ready: int = Field(description="How many of these take jobs when a slot of theirs is free.")


class Readiness(Document):
    """Whether requests can be served, and by what."""

    status: Literal["ready"] = "ready"
    database: str
    storage: str
    broker: str = Field(description="Without it jobs start later: idle workers poll.")
    workers: Workers = Field(description="Jobs are accepted without any, and wait.")


class Index(Document):
    """What there is at this address."""

    name: str
    version: str
    links: dict[str, str]
