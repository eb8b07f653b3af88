"""The environment, read once."""

from pathlib import Path

import pytest
from sqlalchemy import make_url

from impasto.shared import settings
from impasto.shared.errors import InvalidSetting
from impasto.shared.settings import PREFIX, Settings
from impasto.shared.storage import open_storage
from impasto.shared.urls import without_password


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
    "reconcile_seconds": ("0.1", 0.1),
    "retention_days": ("0.5", 0.5),
    "alive_file": ("/run/alive", Path("/run/alive")),
    "host": ("::1", "::1"),
    "port": ("0", 0),
    "metrics_port": ("9464", 9464),
    "max_upload_bytes": ("1024", 1024),
    "max_picture_pixels": ("4096", 4096),
    "log_level": ("debug", "debug"),
    "log_format": ("json", "json"),
}

# More of what is accepted, and stays as it is.
ALSO_GOOD = {
    "database_url": [
        "sqlite:///relative.db?timeout=30",
        "sqlite:////a%3Fb.db",
        "postgresql+psycopg://u:pa/s#s?@h:5433/n?options=-csearch_path%3Dx&sslmode=verify-full",
        "postgresql+psycopg://u:p@[::1]:5432/n",
        "postgresql+psycopg:///n?host=/run/postgresql",
        "postgresql+psycopg://u@/n?host=h1:5432&host=h2:5432",
        "postgresql+psycopg://?service=impasto",
    ],
    "broker_url": [
        "redis://h",
        "redis://h/",
        "redis://user:p%40%2F@[fd00::2]:6379/15",
        "rediss://h/0?ssl_ca_certs=/ca.pem&ssl_cert_reqs=CERT_NONE&ssl_check_hostname=False",
    ],
    "storage_url": ["s3://b", "s3://My_bucket.x-1/a/b/", "file:///a%20b"],
    "weights": ["torchvision", "/a/b.safetensors"],
    "host": ["::", "0.0.0.0", "fe80::1%eth0", "localhost", "my_host.example"],  # noqa: S104
    "lease_seconds": ["31536000.0"],
}

WHOLE, FINITE = "a whole number, at least", "a finite number, more than 0"
# Each variable: values that are refused, and what is said to be accepted instead.
BAD = {
    "home": (["file:///data", "~nobody-of-this-name/x"], "a PATH"),
    "database_url": (
        [
            *("mysql://h/n", "sqlite:///", "postgresql://h/n", "impasto.db", "sqlite:///:memory:"),
            *("sqlite://impasto.db", "sqlite:///a?mode=ro", "sqlite:///a?timeout=x"),
            *("postgresql+psycopg://h", "postgresql+psycopg://h:/n", "postgresql+psycopg:///n"),
            *("postgresql+psycopg://h:abc/n", "postgresql+psycopg://h:0/n"),
            *("postgresql+psycopg://h:65536/n", "postgresql+psycopg://[::g]/n"),
            *("postgresql+psycopg://::1:5432/n", "postgresql+psycopg://a b/n"),
        ],
        "sqlite:///PATH, or postgresql+psycopg://USER:PASSWORD@HOST/NAME;",
    ),
    "broker_url": (
        [
            *("amqp://h", "redis://", "memory://h", "h:6379", "redis:h", "redis:///0"),
            *("redis://host/impasto", "redis://host:abc/0", "redis://host:0/0", "redis://h/-1"),
            *("redis://h/1/2", "redis://::1:6379/0", "redis://[::1/0", "redis://h/0#x"),
            *("redis://h/0?ssl_cert_reqs=none", "rediss://h/0?ssl_cert_reqs=no"),
            *("rediss://h/0?ssl_ca_certs=", "redis://h/0?timeout=5"),
        ],
        "redis://HOST:PORT/N, for Redis or",
    ),
    "storage_url": (
        [
            *("/folder", "file://", "s3://", "file://host/a", "file:///", "file:///a?b", "s3:b"),
            *("s3://b ucket", "s3://bucket:9000/x", "s3://bucket?region=x", "http://h/bucket"),
        ],
        "s3://BUCKET/PREFIX, or file:///PATH",
    ),
    "weights": (["s3://bucket", "https://h/x"], "caffe (the original"),
    "alive_file": (["file:///run/alive"], "a PATH"),
    "host": (["http://h", "h:80", "127.0.0.1:80", "a b", "::g"], "Where `impasto up` listens"),
    "device": (["gpu", "cuda:", "cuda:x"], "auto, cpu, cuda, cuda:N or mps"),
    "threads": (["-1", "1025", "1.5", "x"], f"{WHOLE} 0 and at most 1024"),
    "slots": (["0", "65"], f"{WHOLE} 1 and at most 64"),
    "idle_seconds": (["0", "-1", "nan", "inf", "x"], FINITE),
    "progress_seconds": (["0"], FINITE),
    "lease_seconds": (["0", "31536001", "5m"], f"{FINITE} and at most 31536000"),
    "heartbeat_seconds": (["0"], FINITE),
    "stall_seconds": (["0"], FINITE),
    "checkpoint_seconds": (["0"], FINITE),
    "outage_seconds": (["0"], FINITE),
    "drain_seconds": (["0"], FINITE),
    "reconcile_seconds": (["0"], FINITE),
    "retention_days": (["-1", "inf", "1e5"], "a finite number, at least 0"),
    "port": (["-1", "65536"], f"{WHOLE} 0 and at most 65535"),
    "metrics_port": (["-1", "65536"], f"{WHOLE} 0 and at most 65535"),
    "max_upload_bytes": (["1023", "64MB"], f"{WHOLE} 1024"),
    "max_picture_pixels": (["4095"], f"{WHOLE} 4096"),
    "log_level": (["trace", "INFO"], "one of debug, info, warning, error"),
    "log_format": (["yaml"], "one of auto, json, text"),
}


def test_every_setting_is_tried_here() -> None:
    assert set(GOOD) == set(Settings.model_fields) == set(BAD)


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


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, values in ALSO_GOOD.items() for v in values]
)
def test_a_right_value_stays_as_it_is(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{PREFIX}{name.upper()}", value)

    assert str(getattr(settings.load(), name)) == value


@pytest.mark.parametrize("wrapped", ["'{}'", '"{}"', " {}", "{}\r", "{}\n", "\t' {} ' \r\n"])
@pytest.mark.parametrize("name", GOOD)
def test_what_files_leave_around_a_value_is_dropped(
    name: str, wrapped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{PREFIX}{name.upper()}", GOOD[name][0])
    bare = settings.load()

    monkeypatch.setenv(f"{PREFIX}{name.upper()}", wrapped.format(GOOD[name][0]))

    assert settings.load() == bare


@pytest.mark.parametrize("value", ['"/data', "'/data\"", "/da\nta", "/data\x1b[0m", "/da\x7fta"])
@pytest.mark.parametrize("name", ["home", "database_url", "host", "weights"])
def test_a_lone_quote_or_a_control_character_is_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{PREFIX}{name.upper()}", value)

    with pytest.raises(InvalidSetting, match="accepted: text without quotes around it") as caught:
        settings.load()

    assert caught.value.detail.isprintable()


def test_quotes_around_nothing_are_as_good_as_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    before = settings.load()
    for name in Settings.model_fields:
        monkeypatch.setenv(f"{PREFIX}{name.upper()}", "''")

    assert settings.load() == before


def test_an_address_may_stand_in_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPASTO_HOST", "[::1]")

    assert settings.load().host == "::1"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:7777"),
        ("localhost", "http://localhost:7777"),
        ("::1", "http://[::1]:7777"),
        ("fd00::2", "http://[fd00::2]:7777"),
        ("0.0.0.0", "http://127.0.0.1:7777"),  # noqa: S104
        ("::", "http://[::1]:7777"),
    ],
)
def test_a_client_on_this_machine_finds_the_service(host: str, url: str) -> None:
    assert Settings(host=host).local_url == url


def test_a_user_without_a_home_folder_gets_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "")
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 7)  # as in a container, by its number alone
    monkeypatch.delenv("HOME")

    with pytest.raises(InvalidSetting, match=r"IMPASTO_HOME=~/\.impasto: accepted: a PATH without"):
        settings.load()


def test_a_variable_that_is_no_setting_is_reported_with_the_one_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("IMPASTO_SLOT", "3")
    monkeypatch.setenv("IMPASTO_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("IMPASTO_API_URL", "http://server")
    monkeypatch.setenv("IMPASTO_TEST_S3_URL", "s3://bucket")

    settings.load()

    assert sorted(caplog.messages) == [
        "IMPASTO_SERVICE_HOST is no setting and is ignored; `impasto settings` lists them all",
        "IMPASTO_SLOT is no setting and is ignored; did you mean IMPASTO_SLOTS?",
    ]


def test_all_wrong_values_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPASTO_PORT", "x")
    monkeypatch.setenv("IMPASTO_SLOTS", "0")

    with pytest.raises(InvalidSetting, match=r"IMPASTO_SLOTS=0: .*; IMPASTO_PORT=x: "):
        settings.load()


def test_a_password_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPASTO_DATABASE_URL", "postgres://me:se/cr@t@host/impasto")

    with pytest.raises(InvalidSetting) as caught:
        settings.load()

    assert caught.value.detail.startswith("IMPASTO_DATABASE_URL=postgres://me:***@host/impasto: ")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("broker_url", "redis://:sec/ret@host/0"),
        ("broker_url", "redis://me:secret@host:abc/0"),
        ("broker_url", "redis://:sec@ret@host/0/1"),
        ("broker_url", "redis://:sec#ret@host/0"),
        ("broker_url", "redis://me:12?secret@host/0"),
        ("database_url", "postgresql+psycopg://me:sec@ret@host/n"),
        ("database_url", "postgresql+psycopg://h:x/n?password=secret"),
        ("storage_url", "s3://key:secret@bucket"),
    ],
)
def test_no_piece_of_a_password_is_repeated(
    name: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{PREFIX}{name.upper()}", url)

    with pytest.raises(InvalidSetting) as caught:
        settings.load()

    assert "sec" not in caught.value.detail.replace("seconds", "")
    assert "ret" not in caught.value.detail


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("postgresql+psycopg://u:s3cret@host/name", "postgresql+psycopg://u:***@host/name"),
        ("postgresql+psycopg://u:a/b#c?d@host/name", "postgresql+psycopg://u:***@host/name"),
        ("postgresql+psycopg://h/n?password=x&a=b", "postgresql+psycopg://h/n?password=***&a=b"),
        ("redis://:s3cret@host:6379/0", "redis://:***@host:6379/0"),
        ("sqlite:////home/me/impasto.db", "sqlite:////home/me/impasto.db"),
        ("text: with a colon", "text: with a colon"),
    ],
)
def test_a_value_is_shown_without_its_password(value: str, shown: str) -> None:
    assert without_password(value) == shown


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
