"""Objects in a bucket of any S3-compatible store.

Endpoint, region and keys come from the usual AWS_ variables, as boto3 reads them. Keys need
GetObject and PutObject; what deletes also DeleteObject and ListBucket; `prepare`, where the bucket
is missing, CreateBucket.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from .. import urls
from ..errors import InvalidSetting, ObjectNotFound, StorageFull, Unavailable

# Whoever asks tries again in his own time, so nobody is held longer than two tries take: 9 s.
_CONFIG = Config(
    connect_timeout=2,
    read_timeout=4,
    retries={"mode": "standard", "total_max_attempts": 2},
    tcp_keepalive=True,
    max_pool_connections=32,
    # Checksums only where the protocol demands them: many compatible stores refuse the others.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
_INSUFFICIENT_STORAGE = 507  # HTTP: what some stores answer when their disks are full
_MISSING = {"404", "NoSuchKey", "NotFound"}  # the answer to a HEAD has no body, only a status
# To keys without ListBucket AWS does not tell a missing object from one that they may not read.
_DENIED = {"403", "AccessDenied", "Forbidden"}
_PROBE = "impasto-probe"
_FIRST_REGIONS = {"us-east-1", "aws-global"}  # no LocationConstraint is taken there


class S3Storage:
    """An object per key, below a prefix of one bucket. Clients are safe to share by threads."""

    def __init__(self, bucket: str, prefix: str = "") -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        _check_variables(os.environ)
        try:
            self._client = boto3.session.Session().client("s3", config=_CONFIG)
        except (BotoCoreError, ValueError) as error:  # a profile, a region, a number
            raise InvalidSetting(
                f"S3: {error}; accepted: what boto3 documents of its AWS_ variables"
            ) from error

    def put(self, key: str, data: bytes, media_type: str) -> None:
        with self._translated(key):
            self._client.put_object(**self._at(key), Body=data, ContentType=media_type)

    def get(self, key: str) -> bytes:
        with self._found(key):
            return self._client.get_object(**self._at(key))["Body"].read()

    @contextlib.contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        with self._found(key):
            body = self._client.get_object(**self._at(key))["Body"]
        with self._translated(key), contextlib.closing(body):
            yield cast("BinaryIO", body)

    def exists(self, key: str) -> bool:
        try:
            with self._found(key):
                self._client.head_object(**self._at(key))
        except ObjectNotFound:
            return False
        return True

    def delete(self, key: str) -> None:
        with contextlib.suppress(ObjectNotFound), self._translated(key):
            self._client.delete_object(**self._at(key))

    def keys(self, prefix: str) -> Iterator[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        with self._translated(prefix):
            for page in pages:
                for item in page.get("Contents", []):
                    yield item["Key"].removeprefix(self._prefix)

    def remove_partial_uploads(self, prefix: str) -> None:
        """Nothing: a put is one request, and whole or not there."""

    def prepare(self) -> None:
        try:
            self.check()
        except Unavailable as error:
            if _code(error.__cause__) != "NoSuchBucket":
                raise
            self._make_bucket()

    def check(self) -> None:
        try:
            with self._translated(self._bucket):  # a HEAD would not tell what is wrong
                self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
        except Unavailable as error:
            if _code(error.__cause__) not in _DENIED:
                raise
            self._read_probe()

    def _make_bucket(self) -> None:
        region = self._client.meta.region_name
        where: dict[str, Any] = {}
        if region not in _FIRST_REGIONS:
            where["CreateBucketConfiguration"] = {"LocationConstraint": region}
        made_meanwhile = self._client.exceptions.BucketAlreadyOwnedByYou
        with self._translated(self._bucket), contextlib.suppress(made_meanwhile):
            self._client.create_bucket(Bucket=self._bucket, **where)

    def _read_probe(self) -> None:
        """Read an object that is kept for this, and made once: what may not list may read it."""
        with self._translated(_PROBE):
            try:
                self._client.get_object(**self._at(_PROBE))["Body"].close()
            except ClientError as error:
                if _code(error) not in _DENIED | _MISSING:
                    raise
                self._client.put_object(**self._at(_PROBE), Body=b"", ContentType="text/plain")
                self._client.get_object(**self._at(_PROBE))["Body"].close()

    @contextlib.contextmanager
    def _found(self, key: str) -> Iterator[None]:
        """Raises ObjectNotFound also where what is missing is answered as if it were forbidden."""
        try:
            with self._translated(key):
                yield
        except Unavailable as error:
            if _code(error.__cause__) not in _DENIED:
                raise
            self._read_probe()  # so the keys are good
            raise ObjectNotFound(f"no object {key}") from error

    def _at(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    @contextlib.contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            if _code(error) in _MISSING:
                raise ObjectNotFound(f"no object {key}") from error
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            kind = StorageFull if status == _INSUFFICIENT_STORAGE else Unavailable
            raise kind(f"storage refused {key}: {error}") from error
        except (BotoCoreError, ResponseParserError) as error:  # the latter: half an answer
            raise Unavailable(f"storage out of reach: {error}") from error


def _code(error: BaseException | None) -> str | None:
    """What the store calls the error, if it was one that refused."""
    return error.response.get("Error", {}).get("Code") if isinstance(error, ClientError) else None


def _check_variables(variables: Mapping[str, str]) -> None:
    """Raise InvalidSetting for what boto3 would take as it is, and fail on later."""
    for name, value in variables.items():
        if not name.startswith("AWS_") or not value:
            continue
        is_secret = "KEY" in name or "TOKEN" in name
        shown = "…" if is_secret else urls.without_password(ascii(value)[1:-1])
        if value != value.strip(" \t\r\n\"'") or not value.isprintable():
            raise InvalidSetting(
                f"{name}={shown}: accepted: text without quotes or spaces around it, and without"
                " control characters"
            )
        if name in {"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"}:
            try:
                urls.check_endpoint(value)
            except ValueError as error:
                raise InvalidSetting(
                    f"{name}={shown}: accepted: http://HOST:PORT or https://HOST. Here: {error}."
                ) from None
