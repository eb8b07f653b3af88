"""Objects in a bucket of any S3-compatible store.

Endpoint, region and keys come from the usual AWS_ variables, as boto3 reads them.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from shared.errors import ObjectNotFound, StorageFull, Unavailable

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


class S3Storage:
    """An object per key, below a prefix of one bucket. Clients are safe to share by threads."""

    def __init__(self, bucket: str, prefix: str = "") -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._client = boto3.session.Session().client("s3", config=_CONFIG)

    def put(self, key: str, data: bytes, media_type: str) -> None:
        with self._translated(key):
            self._client.put_object(**self._at(key), Body=data, ContentType=media_type)

    def get(self, key: str) -> bytes:
        with self._translated(key):
            return self._client.get_object(**self._at(key))["Body"].read()

    @contextlib.contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        with (
            self._translated(key),
            contextlib.closing(self._client.get_object(**self._at(key))["Body"]) as body,
        ):
            yield cast("BinaryIO", body)

    def exists(self, key: str) -> bool:
        try:
            with self._translated(key):
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

    def tidy(self, prefix: str) -> None:
        """Nothing: a put is one request, and whole or not there."""

    def prepare(self) -> None:
        try:
            self.check()
        except Unavailable:
            made_meanwhile = self._client.exceptions.BucketAlreadyOwnedByYou
            with self._translated(self._bucket), contextlib.suppress(made_meanwhile):
                self._client.create_bucket(Bucket=self._bucket)

    def check(self) -> None:
        with self._translated(self._bucket):  # a HEAD would not tell what is wrong
            self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)

    def _at(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    @contextlib.contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in _MISSING:
                raise ObjectNotFound(f"no object {key}") from error
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            kind = StorageFull if status == _INSUFFICIENT_STORAGE else Unavailable
            raise kind(f"storage refused {key}: {error}") from error
        except (BotoCoreError, ResponseParserError) as error:  # the latter: half an answer
            raise Unavailable(f"storage out of reach: {error}") from error
