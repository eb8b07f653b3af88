"""Objects under keys, on both storages."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from impasto.shared.errors import InvalidSetting, ObjectNotFound, StorageFull, Unavailable
from impasto.shared.storage import Storage, open_storage
from tests.arrange.stores import killed_put, parts
from tests.servers.proxy import Proxy
from tests.servers.s3_policy import GRANTED, S3Policy
from tests.servers.server import LOCALHOST, free_port

if TYPE_CHECKING:
    from tests.servers.swift import S3At

PNG = "image/png"
LARGE = bytes(range(256)) * (5 * 2**20 // 256)
ODD_KEYS = ["a b/c", "100%/%41", "q?x=1&y#z", "+", "Ω/日本/🎨", "'\"<>", "a/b/c/d/e/f", "x" * 200]


@pytest.fixture
def storage(storage_url: str) -> Storage:
    storage = open_storage(storage_url)
    storage.prepare()
    return storage


# Objects.


@pytest.mark.parametrize("data", [b"", b"\x00\xff\r\n", LARGE], ids=["empty", "bytes", "large"])
def test_what_is_put_is_got(storage: Storage, data: bytes) -> None:
    storage.put("a/b.png", data, PNG)

    assert storage.get("a/b.png") == data
    with storage.open("a/b.png") as stream:
        assert stream.read() == data
    assert storage.exists("a/b.png")


def test_a_stream_is_read_in_pieces(storage: Storage) -> None:
    storage.put("a", b"0123456789", PNG)

    with storage.open("a") as stream:
        assert [stream.read(4), stream.read(4), stream.read(4)] == [b"0123", b"4567", b"89"]


def test_an_object_that_is_put_again_is_there_once(storage: Storage) -> None:
    storage.put("a", b"same", PNG)
    storage.put("a", b"same", PNG)

    assert storage.get("a") == b"same"
    assert list(storage.keys("")) == ["a"]


def test_a_missing_object_is_named(storage: Storage) -> None:
    storage.put("a/b", b"", PNG)

    for key in ("nothing", "a", "a/b/c"):
        with pytest.raises(ObjectNotFound, match=f"no object {key}$"):
            storage.get(key)
        with pytest.raises(ObjectNotFound, match=f"no object {key}$"), storage.open(key):
            pass
        assert not storage.exists(key)


def test_a_deleted_object_is_gone_and_may_be_deleted_again(storage: Storage) -> None:
    for key in ("a/b", "a/c"):
        storage.put(key, b"", PNG)

    for _ in range(2):
        storage.delete("a/b")
        assert not storage.exists("a/b")
        assert list(storage.keys("")) == ["a/c"]

    storage.delete("a/c")
    storage.put("a/b", b"again", PNG)
    assert storage.get("a/b") == b"again"


def test_keys_are_listed_in_order_by_prefix(storage: Storage) -> None:
    keys = ["a", "b/1", "b/10", "b/2", "b/c/1", "ba/1", "Ω"]
    for key in reversed(keys):
        storage.put(key, b"", PNG)

    assert list(storage.keys("")) == keys
    assert list(storage.keys("b")) == ["b/1", "b/10", "b/2", "b/c/1", "ba/1"]
    assert list(storage.keys("b/")) == ["b/1", "b/10", "b/2", "b/c/1"]
    assert list(storage.keys("b/1")) == ["b/1", "b/10"]
    assert list(storage.keys("c/")) == []


def test_what_a_killed_put_left_is_no_object_and_can_be_removed(
    storage: Storage, storage_url: str
) -> None:
    storage.put("a/b/kept", b"whole", PNG)
    killed_put(storage_url, "a/b/lost")
    assert list(storage.keys("")) == ["a/b/kept"]
    left = parts(storage_url)

    storage.remove_partial_uploads("a/b/kept")
    assert parts(storage_url) == left

    storage.remove_partial_uploads("a/b")
    assert parts(storage_url) == []
    assert storage.get("a/b/kept") == b"whole"


def test_keys_may_be_odd(storage: Storage) -> None:
    for key in ODD_KEYS:
        storage.put(key, key.encode(), PNG)

    assert [storage.get(key).decode() for key in ODD_KEYS] == ODD_KEYS
    assert list(storage.keys("")) == sorted(ODD_KEYS)
    for key in ODD_KEYS:
        storage.delete(key)
    assert list(storage.keys("")) == []


def test_no_key_leads_out_of_the_storage(storage: Storage, storage_url: str) -> None:
    around = open_storage(storage_url.rpartition("/")[0])
    around.put("mine", b"secret", PNG)
    before = set(around.keys(""))

    for key in ("../mine", "a/../../mine", "/mine", "../../mine"):
        with pytest.raises(ObjectNotFound):
            storage.get(key)
        assert not storage.exists(key)
        with suppress(ObjectNotFound):
            storage.put(key, b"changed", PNG)
        storage.delete(key)

    assert around.get("mine") == b"secret"
    assert set(around.keys("")) == before


def test_a_reader_sees_all_of_an_object_or_nothing(storage: Storage) -> None:
    is_over = Event()

    def read() -> set[int]:
        sizes = set()
        while not is_over.is_set():
            with suppress(ObjectNotFound):
                sizes.add(len(storage.get("a")))
        return sizes

    with ThreadPoolExecutor() as threads:
        readers = [threads.submit(read) for _ in range(3)]
        began = monotonic()
        while monotonic() < began + 1:
            storage.put("a", LARGE, PNG)
            storage.delete("a")
        is_over.set()

    assert set.union(*(reader.result() for reader in readers)) <= {len(LARGE)}


def test_many_may_put_and_delete_at_once(storage: Storage) -> None:
    def work(name: str) -> None:
        for _ in range(3):
            storage.put(f"a/b/{name}", b"x", PNG)
            storage.delete(f"a/b/{name}")
        storage.put(f"a/b/{name}", name.encode(), PNG)

    with ThreadPoolExecutor() as threads:
        for done in [threads.submit(work, name) for name in "1234"]:
            done.result()

    assert [storage.get(key) for key in storage.keys("a/")] == [b"1", b"2", b"3", b"4"]


# Preparing, and out of reach.


def test_a_storage_may_be_prepared_by_many_at_once_and_again(storage_url: str) -> None:
    fresh = [open_storage(beside(storage_url, "new")) for _ in range(3)]
    with ThreadPoolExecutor() as threads:
        for done in [threads.submit(storage.prepare) for storage in fresh]:
            done.result()

    fresh[0].prepare()
    fresh[0].check()
    assert list(fresh[0].keys("")) == []


def test_a_place_that_is_missing_is_named(storage_url: str) -> None:
    with pytest.raises(Unavailable, match="-missing"):
        open_storage(beside(storage_url, "missing")).check()


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_what_is_out_of_reach_is_soon_said_to_be(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{LOCALHOST}:{free_port()}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    nowhere = open_storage({"file": "file:///dev/null/objects", "s3": "s3://bucket"}[kind])

    began = monotonic()
    for act in (nowhere.check, nowhere.prepare, lambda: nowhere.put("a", b"", PNG)):
        with pytest.raises(Unavailable):
            act()
    assert monotonic() - began < 30


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_keys_are_said_to_be_wrong(
    swift: "S3At", variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (swift.environment() | {variable: "wrong"}).items():
        monkeypatch.setenv(name, value)
    url = swift.bucket()
    storage = open_storage(url)

    acts: list[Callable[[], object]] = [
        storage.check,
        storage.prepare,
        lambda: storage.put("a", b"", PNG),
        lambda: storage.get("a"),
        lambda: list(storage.keys("")),
        lambda: storage.delete("a"),
    ]
    for act in acts:
        with pytest.raises(Unavailable, match=r"SignatureDoesNotMatch|InvalidAccessKeyId"):
            act()
    swift.drop(url)


def test_a_put_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    put = f"""
import resource
from impasto.shared.errors import StorageFull
from impasto.shared.storage import open_storage
storage = open_storage({tmp_path.as_uri()!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # as good as a disk that is full
storage.put("a/b", bytes(1000), "image/png")
try:
    storage.put("a/c", bytes(1001), "image/png")
except StorageFull as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", put], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.stdout, done.stderr) == ("cannot store a/c: File too large\n", "")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["b"]


def test_a_disk_that_is_full_is_said_to_be_until_it_has_room_again(small_disk: Path) -> None:
    storage = open_storage(small_disk.as_uri())
    storage.put("kept", bytes(3 * 2**20 + 2**19), PNG)

    with pytest.raises(StorageFull, match=r"^cannot write to .*: No space left on device$"):
        storage.check()
    with pytest.raises(StorageFull, match=r"^cannot store a/b: No space left on device$"):
        storage.put("a/b", bytes(2**20), PNG)
    assert [path.name for path in small_disk.rglob("*") if path.is_file()] == ["kept"]

    storage.delete("kept")
    storage.check()
    storage.put("a/b", bytes(2**20), PNG)


@pytest.mark.parametrize("fault", [Proxy.cut, Proxy.freeze, Proxy.half_close])
def test_a_store_that_does_not_answer_holds_nobody_and_is_used_again(
    swift: "S3At", fault: Callable[[Proxy], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = swift.environment()
    with Proxy.of(environment["AWS_ENDPOINT_URL_S3"]) as proxy:
        environment["AWS_ENDPOINT_URL_S3"] = proxy.url(environment["AWS_ENDPOINT_URL_S3"])
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        url = swift.bucket()
        storage = open_storage(url)
        storage.put("a", b"before", PNG)
        acts: list[Callable[[], object]] = [
            storage.check,
            lambda: storage.put("b", b"meanwhile", PNG),
            lambda: storage.get("a"),
            lambda: list(storage.keys("")),
        ]

        fault(proxy)

        began = monotonic()
        if fault is not Proxy.half_close:  # new connections are whole again
            with ThreadPoolExecutor() as threads:
                for done in [threads.submit(act) for act in acts]:
                    with pytest.raises(Unavailable):
                        done.result()
            proxy.heal()
        assert storage.get("a") == b"before"
        storage.put("a", b"before", PNG)
        assert monotonic() - began < 30  # 9 s, and much for a busy machine
    swift.drop(url)


# S3 as operators have it.


Limited = Callable[..., tuple[Storage, S3Policy]]


@pytest.fixture
def limited(swift: "S3At", monkeypatch: pytest.MonkeyPatch) -> Iterator[Limited]:
    """`limited(granted=...)`: a storage whose keys may do only that, and its policy."""
    with ExitStack() as stack:

        def make(**how: Any) -> tuple[Storage, S3Policy]:
            environment = swift.environment()
            policy = stack.enter_context(S3Policy(environment["AWS_ENDPOINT_URL_S3"], **how))
            environment["AWS_ENDPOINT_URL_S3"] = policy.endpoint
            environment["AWS_DEFAULT_REGION"] = policy.region
            for name, value in environment.items():
                monkeypatch.setenv(name, value)
            return open_storage(url), policy

        url = swift.bucket()
        yield make
        swift.drop(url)


def test_keys_that_may_not_list_are_enough_to_get_and_put(limited: Limited) -> None:
    storage, policy = limited()
    storage.prepare()
    for _ in range(2):
        storage.check()

    storage.put("a/b", b"bytes", PNG)
    assert storage.get("a/b") == b"bytes"
    with storage.open("a/b") as stream:
        assert stream.read() == b"bytes"
    assert storage.exists("a/b")
    storage.delete("a/b")
    assert policy.made == []
    with pytest.raises(Unavailable, match="AccessDenied"):
        list(storage.keys(""))


def test_an_object_that_is_missing_is_no_outage_to_keys_that_may_not_list(
    limited: Limited,
) -> None:
    storage, _ = limited()

    with pytest.raises(ObjectNotFound, match=r"no object a/b$"):
        storage.get("a/b")
    with pytest.raises(ObjectNotFound, match=r"no object a/b$"), storage.open("a/b"):
        pass
    assert not storage.exists("a/b")


@pytest.mark.parametrize("missing", ["GetObject", "PutObject"])
def test_keys_that_may_not_get_or_put_are_said_to_be_too_few(
    limited: Limited, missing: str
) -> None:
    storage, _ = limited(granted=GRANTED - {missing})

    asked: list[Callable[[], object]] = [lambda: storage.get("a"), lambda: storage.exists("a")]
    for act in (storage.check, storage.prepare, *asked):
        with pytest.raises(Unavailable, match=f"AccessDenied.*{missing}"):
            act()


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
def test_a_bucket_is_made_in_the_region_that_is_set(limited: Limited, region: str) -> None:
    """By AWS' rule: its first region goes without saying, and no other does."""
    granted = GRANTED | {"CreateBucket", "ListBucket"}
    storage, policy = limited(granted=granted, region=region)
    policy.forget_bucket()

    storage.prepare()

    assert policy.made == [None if region == "us-east-1" else region]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ENDPOINT_URL_S3", "localhost:9000"),
        ("AWS_ENDPOINT_URL_S3", "minio"),
        ("AWS_ENDPOINT_URL_S3", "s3://host"),
        ("AWS_ENDPOINT_URL_S3", "http://host:abc"),
        ("AWS_ENDPOINT_URL_S3", "http://"),
        ("AWS_ENDPOINT_URL_S3", '"http://host"'),
        ("AWS_ENDPOINT_URL", "host"),
        ("AWS_ACCESS_KEY_ID", "key\r"),
        ("AWS_SECRET_ACCESS_KEY", "'secret'"),
        ("AWS_DEFAULT_REGION", " us-east-1"),
    ],
)
def test_a_variable_of_s3_that_cannot_work_is_refused_by_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(InvalidSetting, match=f"^{name}=.*: accepted: ") as caught:
        open_storage("s3://bucket")

    assert "KEY" not in name or value.strip("' ") not in caught.value.detail


@pytest.mark.parametrize(
    ("name", "value"), [("AWS_PROFILE", "nobody"), ("AWS_DEFAULT_REGION", "no region")]
)
def test_what_boto3_refuses_is_refused_with_its_words(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(InvalidSetting, match=f"^S3: .*{value}.*accepted"):
        open_storage("s3://bucket")


def test_a_url_of_another_kind_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="accepted: file:///FOLDER or s3://BUCKET/PREFIX"):
        open_storage("ftp://host/path")


def beside(url: str, name: str) -> str:
    """The URL of another folder or bucket, beside this one."""
    if url.startswith("s3://"):
        url = "/".join(url.split("/")[:3])
    return f"{url}-{name}"
