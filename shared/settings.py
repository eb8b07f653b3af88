"""Every setting, with its bound, default and a sentence. Read once, at entry points only."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import InvalidSetting, Violation
from shared.violations import violations

PREFIX = "IMPASTO_"
Seconds = Annotated[float, Field(gt=0)]


class Settings(BaseSettings):
    """The environment variables that begin with IMPASTO_."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, env_ignore_empty=True, allow_inf_nan=False
    )

    home: Path = Field(
        default=Path("~/.impasto"),
        description="The folder of the embedded stack: database, storage, cached weights.",
    )
    database_url: str = Field(
        default="",
        pattern=r"^(|sqlite:///.+|postgresql\+psycopg://.+)$",
        description="sqlite:///PATH, or postgresql+psycopg://USER:PASSWORD@HOST/NAME;"
        " empty: a SQLite file under home.",
    )
    broker_url: str = Field(
        default="memory://",
        pattern=r"^(memory://|rediss?://.+)$",
        description="redis://HOST:PORT/N, for Redis or Valkey; memory:// within one process.",
    )
    storage_url: str = Field(
        default="",
        pattern=r"^(|file:///.+|s3://[^/]+(/.*)?)$",
        description="s3://BUCKET/PREFIX, or file:///PATH; empty: a folder under home."
        " S3 takes its endpoint and keys from the usual AWS_ variables.",
    )
    weights: str = Field(
        default="caffe",
        min_length=1,
        description="caffe (the original, installed with the worker), torchvision,"
        " or a safetensors file: PATH or s3://BUCKET/KEY.",
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|mps|cuda(:[0-9]+)?)$",
        description="auto, cpu, cuda, cuda:N or mps; auto takes the best that is there.",
    )
    threads: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="CPU threads of the engine; 0: one per core. A float32 picture is the same to"
        " the bit only where their number is the same.",
    )
    slots: int = Field(
        default=1, ge=1, le=64, description="How many jobs a worker renders at the same time."
    )
    idle_seconds: Seconds = Field(
        default=2.0, description="How often an idle worker looks for a job that nobody rang for."
    )
    progress_seconds: Seconds = Field(
        default=0.25, description="How often a running job's progress is written."
    )
    lease_seconds: Seconds = Field(
        default=60.0, description="A job whose worker was not heard of for so long is taken back."
    )
    heartbeat_seconds: Seconds = Field(
        default=15.0,
        description="How often a lease is renewed at least, while its render gets further; never"
        " less than four times a lease.",
    )
    stall_seconds: Seconds = Field(
        default=60.0,
        description="A device that finishes not even a part of an iteration in so long hangs: its"
        " leases are not renewed. The first iteration has five minutes.",
    )
    checkpoint_seconds: Seconds = Field(
        default=15.0,
        description="How often a render's state is kept: what a killed worker costs at most.",
    )
    outage_seconds: Seconds = Field(
        default=600.0,
        description="How long a worker waits for a storage out of reach before it hands back.",
    )
    drain_seconds: Seconds = Field(
        default=20.0, description="How long a worker that is told to stop may take to hand back."
    )
    sweep_seconds: Seconds = Field(
        default=5.0, description="How often the reconciler looks for what was left behind."
    )
    retention_days: float = Field(
        default=0.0,
        ge=0,
        description="How long after a job's end its result and snapshots are kept; 0: for ever.",
    )
    alive_file: Path | None = Field(
        default=None,
        description="A file that a worker or a reconciler touches every few seconds while it is"
        " well: for health checks. A worker writes into it whether it is ready for jobs.",
    )
    host: str = Field(default="127.0.0.1", description="Where `impasto up` listens.")
    port: int = Field(
        default=7777, ge=0, le=65535, description="The port of `impasto up`; 0: any that is free."
    )
    max_upload_bytes: int = Field(
        default=64 * 2**20, ge=1024, description="The largest request body that is accepted."
    )
    max_picture_pixels: int = Field(
        default=100_000_000,
        ge=4096,
        description="The largest picture that is accepted, in pixels, width x height.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="How much is logged."
    )
    log_format: Literal["auto", "json", "text"] = Field(
        default="auto", description="json for machines, text for people; auto: text on a terminal."
    )

    @model_validator(mode="after")
    def _at_home(self) -> Self:
        home = self.home.expanduser().absolute()
        resolved = {
            "home": home,
            "database_url": self.database_url or f"sqlite:///{quote(str(home / 'impasto.db'))}",
            "storage_url": self.storage_url or (home / "objects").as_uri(),
        }
        for name, value in resolved.items():
            object.__setattr__(self, name, value)  # frozen for everybody else
        return self


def load(**given: Any) -> Settings:
    """The settings from the environment, but for those that are given.

    Raises InvalidSetting that names each variable, its value and what is accepted.
    """
    try:
        return Settings(**given)
    except ValidationError as error:
        found = [_without_password(violation) for violation in violations(error, Settings)]
        lines = [f"{PREFIX}{v.field.upper()}={v.value}: accepted: {v.accepted}" for v in found]
        # Not `from error`, which quotes what was given.
        raise InvalidSetting("; ".join(lines), violations=found) from None


def _without_password(violation: Violation) -> Violation:
    return replace(violation, value=re.sub(r"//.*@", "//…@", str(violation.value)))
