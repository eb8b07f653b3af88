"""The environment, read once."""

from pathlib import Path

import pytest
from sqlalchemy import make_url

from shared import settings
from shared.errors import InvalidSetting
from shared.settings import PREFIX, Settings
from shared.storage import open_storage


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"{PREFIX}{name.upper()}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


# Each variable: a value that is accepted, and how it is read.
GOOD = {
    "home": ("~/studio", "~/studio"),
    "database_url": ("postgresql+psycopg://u:p@h/n", "postgresql+psycopg://u:p@h/n"),
    "broker_url": ("rediss://h:6380/1", "rediss://h:6380/1"),
    "storage_url": ("s3://bucket/prefix", "s3://bucket/prefix"),
    "weights": ("s3://bucket/vgg.safetensors", "s3://bucket/vgg.safetensors"),
    "device": ("cuda:3", "cuda:3"),
    "threads": ("4", 4),
    "slots": ("64", 64),
    "idle_seconds": ("0.5", 0.5),
    "progress_seconds": ("1", 1.0),
    "lease_seconds": ("1e2", 100.0),
    "heartbeat_seconds": ("5", 5.0),
    "stall_seconds": ("90", 90.0),
    "checkpoint_seconds": ("30", 30.0),
    "outage_seconds": ("60", 60.0),
    "drain_seconds": ("30", 30.0),
    "sweep_seconds": ("0.1", 0.1),
    "retention_days": ("0.5", 0.5),
    "alive_file": ("/run/alive", Path("/run/alive")),
    "host": ("::1", "::1"),
    "port": ("0", 0),
    "max_upload_bytes": ("1024", 1024),
    "max_picture_pixels": ("4096", 4096),
    "log_level": ("debug", "debug"),
    "log_format": ("json", "json"),
}

WHOLE, FINITE = "a whole number, at least", "a finite number, more than 0"
# Each variable: values that are refused, and what is said to be accepted instead.
BAD = {
    "database_url": (["mysql://h/n", "sqlite:///", "postgresql://h/n"], "sqlite:///PATH, or post"),
    "broker_url": (["amqp://h", "redis://", "memory://h"], "redis://HOST:PORT/N, for Redis or"),
    "storage_url": (["/folder", "file://", "s3://"], "s3://BUCKET/PREFIX, or file:///PATH"),
    "device": (["gpu", "cuda:", "cuda:x"], "auto, cpu, cuda, cuda:N or mps"),
    "threads": (["-1", "1025", "1.5", "x"], f"{WHOLE} 0 and at most 1024"),
    "slots": (["0", "65"], f"{WHOLE} 1 and at most 64"),
    "idle_seconds": (["0", "-1", "nan", "inf", "x"], FINITE),
    "progress_seconds": (["0"], FINITE),
    "lease_seconds": (["0"], FINITE),
    "heartbeat_seconds": (["0"], FINITE),
    "stall_seconds": (["0"], FINITE),
    "checkpoint_seconds": (["0"], FINITE),
    "outage_seconds": (["0"], FINITE),
    "drain_seconds": (["0"], FINITE),
    "sweep_seconds": (["0"], FINITE),
    "retention_days": (["-1", "inf"], "a finite number, at least 0"),
    "port": (["-1", "65536"], f"{WHOLE} 0 and at most 65535"),
    "max_upload_bytes": (["1023", "64MB"], f"{WHOLE} 1024"),
    "max_picture_pixels": (["4095"], f"{WHOLE} 4096"),
    "log_level": (["trace", "INFO"], "one of debug, info, warning, error"),
    "log_format": (["yaml"], "one of auto, json, text"),
}
TAKES_ANY_TEXT = {"home", "weights", "alive_file", "host"}


def test_every_setting_is_tried_here() -> None:
    assert set(GOOD) == set(Settings.model_fields) == set(BAD) | TAKES_ANY_TEXT


@pytest.mark.parametrize("name", GOOD)
def test_a_variable_is_read(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given, expected = GOOD[name]
    assert getattr(settings.load(), name) != expected, "not a default"

    monkeypatch.setenv(f"{PREFIX}{name.upper()}", given)

    if name == "home":
        expected = tmp_path / "studio"
    assert getattr(settings.load(), name) == expected


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, (values, _) in BAD.items() for v in values]
)
def test_a_wrong_value_is_refused_by_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{PREFIX}{name.upper()}", value)

    with pytest.raises(InvalidSetting) as caught:
        settings.load()

    _, accepted = BAD[name]
    assert caught.value.detail.startswith(f"{PREFIX}{name.upper()}={value}: accepted: {accepted}")
    (violation,) = caught.value.violations
    assert (violation.field, violation.value) == (name, value)


def test_all_wrong_values_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPASTO_PORT", "x")
    monkeypatch.setenv("IMPASTO_SLOTS", "0")

    with pytest.raises(InvalidSetting, match=r"IMPASTO_SLOTS=0: .*; IMPASTO_PORT=x: "):
        settings.load()


def test_a_password_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPASTO_DATABASE_URL", "postgres://me:se/cr@t@host/impasto")

    with pytest.raises(InvalidSetting) as caught:
        settings.load()

    assert caught.value.detail.startswith("IMPASTO_DATABASE_URL=postgres://…@host/impasto: ")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    before = settings.load()
    for name in Settings.model_fields:
        monkeypatch.setenv(f"{PREFIX}{name.upper()}", "")

    assert settings.load() == before


def test_what_is_not_said_is_kept_at_home(tmp_path: Path) -> None:
    found = settings.load()

    assert found.home == tmp_path / ".impasto"
    assert found.database_url == f"sqlite:///{tmp_path}/.impasto/impasto.db"
    assert found.storage_url == f"file://{tmp_path}/.impasto/objects"
    assert found.broker_url == "memory://"
    assert list(tmp_path.iterdir()) == [], "nothing is made by reading"


@pytest.mark.parametrize("folder", ["a b", "100%", "%41", "a?b#c", "Ω", "relative"])
def test_home_may_be_any_folder(
    folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMPASTO_HOME", folder)

    found = settings.load()

    home = tmp_path / folder
    assert found.home == home
    assert make_url(found.database_url).database == str(home / "impasto.db")
    storage = open_storage(found.storage_url)
    storage.put("key", b"bytes", "text/plain")
    assert (home / "objects" / "key").read_bytes() == b"bytes"


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings.load().port = 1
