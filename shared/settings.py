"""Every setting, with its bound, default and a sentence. Read once, at entry points only."""

import difflib
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from . import urls
from .errors import InvalidSetting, Violation
from .violations import violations

PREFIX = "IMPASTO_"
# Variables that are read elsewhere: by the command line, and by the tests.
_OTHERS = re.compile(r"API_URL|TEST_\w+")

_log = logging.getLogger(__name__)


def _expanded(path: Path) -> Path:
    if re.match(r"\w+:/", str(path)):
        raise ValueError("a PATH, not a URL")
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("a PATH without ~, for this user has no home folder here") from None


_YEAR = 365 * 86400
Seconds = Annotated[float, Field(gt=0, le=_YEAR)]  # longer waits overflow, here and in Postgres
FilePath = Annotated[Path, AfterValidator(_expanded)]


class Settings(BaseSettings):
    """The environment variables that begin with IMPASTO_."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, env_ignore_empty=True, allow_inf_nan=False
    )

    home: FilePath = Field(
        default=Path("~/.impasto"),
        description="The folder of the embedded stack: database, storage, cached weights.",
    )
    database_url: str = Field(
        default="",
        description="sqlite:///PATH, or postgresql+psycopg://USER:PASSWORD@HOST/NAME;"
        " empty: a SQLite file under home.",
    )
    broker_url: str = Field(
        default="memory://",
        description="redis://HOST:PORT/N, for Redis or Valkey; rediss:// by TLS; memory:// within"
        " one process.",
    )
    storage_url: str = Field(
        default="",
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
        default=2.0,
        description="Poll interval of an idle worker, for jobs whose wake-up was lost.",
    )
    progress_seconds: Seconds = Field(
        default=0.25, description="How often a running job's progress is written."
    )
    lease_seconds: Seconds = Field(
        default=60.0,
        description="Lease duration: a job whose worker does not renew it for so long is requeued.",
    )
    heartbeat_seconds: Seconds = Field(
        default=15.0,
        description="Heartbeat interval: how often a lease is renewed while its render makes"
        " progress; at most a quarter of the lease is used.",
    )
    stall_seconds: Seconds = Field(
        default=60.0,
        description="Stall timeout: if a device completes no part of an iteration for so long, its"
        " leases are not renewed. The first iteration has five minutes.",
    )
    checkpoint_seconds: Seconds = Field(
        default=15.0,
        description="Checkpoint interval: the most work that a killed worker loses.",
    )
    outage_seconds: Seconds = Field(
        default=600.0,
        description="How long a worker retries an unreachable storage before it requeues its job.",
    )
    drain_seconds: Seconds = Field(
        default=20.0,
        description="Drain timeout: how long a stopping worker may take to requeue its jobs.",
    )
    reconcile_seconds: Seconds = Field(
        default=5.0,
        description="Reconcile interval: how often expired leases are requeued and garbage is"
        " collected.",
    )
    retention_days: float = Field(
        default=0.0,
        ge=0,
        le=36500,
        description="How long after a job's end its result and snapshots are kept; 0: for ever.",
    )
    alive_file: FilePath | None = Field(
        default=None,
        description="For health checks: a file that a healthy worker or reconciler touches every"
        " few seconds. A worker writes into it whether it is ready for jobs.",
    )
    host: str = Field(
        default="127.0.0.1",
        description="Where `impasto up` listens: an IPv4 or IPv6 address, or a name; :: is every"
        " address of either kind.",
    )
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
    metrics_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Where a worker or a reconciler answers GET /metrics for Prometheus, on every"
        " address of its machine; 0: nowhere. The API answers it on its own port.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="How much is logged."
    )
    log_format: Literal["auto", "json", "text"] = Field(
        default="auto", description="json for machines, text for people; auto: text on a terminal."
    )

    @field_validator("*", mode="before")
    @classmethod
    def _cleaned(cls, value: Any, info: ValidationInfo) -> Any:
        """Without what comes along from files: spaces, line ends of Windows, a pair of quotes."""
        if not isinstance(value, str):
            return str(value) if isinstance(value, Path) else value
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1].strip()
        if value[:1] in {'"', "'"} or not value.isprintable():
            raise ValueError("text without quotes around it, and without control characters")
        return value or cls.model_fields[str(info.field_name)].default

    @field_validator("database_url", "broker_url", "storage_url", "weights", "host")
    @classmethod
    def _can_work(cls, value: str, info: ValidationInfo) -> str:
        name = str(info.field_name)
        if name == "host":
            value = value.removeprefix("[").removesuffix("]")
        try:
            if value:
                _CHECKS[name](value)
        except ValueError as error:
            raise ValueError(f"{cls.model_fields[name].description} Here: {error}.") from None
        return value

    @model_validator(mode="after")
    def _at_home(self) -> Self:
        home = self.home.absolute()
        resolved = {
            "home": home,
            "database_url": self.database_url or f"sqlite:///{quote(str(home / 'impasto.db'))}",
            "storage_url": self.storage_url or (home / "objects").as_uri(),
        }
        for name, value in resolved.items():
            object.__setattr__(self, name, value)  # frozen for everybody else
        return self

    @property
    def local_url(self) -> str:
        """Where a client on this machine finds `impasto up`."""
        return urls.of_http(self.host, self.port)


def _check_weights(value: str) -> None:
    if "://" in value:
        urls.check_storage(value, needs_key=True)


_CHECKS: Final[dict[str, Callable[[str], None]]] = {
    "database_url": urls.check_database,
    "broker_url": urls.check_broker,
    "storage_url": urls.check_storage,
    "weights": _check_weights,
    "host": urls.check_address,
}


def load(**given: Any) -> Settings:
    """The settings from the environment, but for those that are given.

    A variable that looks like one of them, and is none, is warned of: it is not refused, for others
    set such names, too; Kubernetes does for a Service that is called impasto.
    Raises InvalidSetting that names each variable, its value and what is accepted.
    """
    for warning in _unknown(os.environ):
        _log.warning("%s", warning)
    try:
        return Settings(**given)
    except ValidationError as error:
        found = [_presentable(violation) for violation in violations(error, Settings)]
        lines = [f"{PREFIX}{v.field.upper()}={v.value}: accepted: {v.accepted}" for v in found]
        # Not `from error`, which quotes what was given.
        raise InvalidSetting("; ".join(lines), violations=found) from None


def _unknown(variables: Iterable[str]) -> Iterator[str]:
    known = [name.upper() for name in Settings.model_fields]
    for variable in map(str.upper, variables):
        name = variable.removeprefix(PREFIX)
        if name == variable or name in known or _OTHERS.fullmatch(name):
            continue
        meant = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {PREFIX}{meant[0]}?" if meant else "`impasto settings` lists them all"
        yield f"{variable} is no setting and is ignored; {hint}"


def _presentable(violation: Violation) -> Violation:
    value = urls.without_password(str(violation.value))
    shown = "".join(it if it.isprintable() else ascii(it)[1:-1] for it in value)
    return replace(violation, value=shown)
