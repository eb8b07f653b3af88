"""S3: our own, OpenStack Swift from the package `swift`, or a bucket elsewhere."""

import os
import sys
import tempfile
import uuid
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import httpx2
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from .server import LOCALHOST, Server, UnavailableError, package

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CHECKOUT = Path(__file__).parents[2]
ONE_ATTEMPT = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=30)


class S3At:
    """A place in a bucket, `s3://bucket/prefix`, reached as the usual AWS variables say."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    @cached_property
    def client(self) -> "S3Client":
        return boto3.client("s3", config=ONE_ATTEMPT)

    def environment(self) -> dict[str, str]:
        """The variables that a client of this server needs."""
        return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}

    def version(self) -> str:
        answer = self.client.head_bucket(Bucket=_split(self.url)[0])
        return answer["ResponseMetadata"]["HTTPHeaders"].get("server", "S3 that tells no version")

    def bucket(self) -> str:
        """The URL of an empty place."""
        return f"{self.url}/test-{uuid.uuid4().hex}"

    def drop(self, url: str) -> None:
        """Delete what is in a place that `bucket` gave."""
        bucket, prefix = _split(url)
        pages = self.client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=bucket, Prefix=f"{prefix}/"):
            objects = [{"Key": each["Key"]} for each in page.get("Contents", [])]
            if objects:
                self.client.delete_objects(Bucket=bucket, Delete={"Objects": objects})


class Swift(Server, S3At):
    """A Swift of our own, with one user: real signatures, expiry and multipart uploads.

    About atomicity it proves nothing: `If-None-Match: *` is checked before the write, not with it.
    """

    access_key = "impasto:tests"
    region = "us-east-1"

    def __init__(self) -> None:
        package("swift")
        super().__init__()
        self.endpoint = f"http://{LOCALHOST}:{self.port}"
        self.secret_key = self.secret

    @cached_property
    def client(self) -> "S3Client":
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=ONE_ATTEMPT,
        )

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_SESSION_TOKEN": "",  # not the one of whoever runs the tests
            "AWS_DEFAULT_REGION": self.region,
        }

    def version(self) -> str:
        return f"swift {httpx2.get(f'{self.endpoint}/info').json()['swift']['version']}"

    def bucket(self) -> str:
        """The URL of a place in a new bucket."""
        name = f"test-{uuid.uuid4().hex}"
        self.client.create_bucket(Bucket=name)
        return f"s3://{name}/prefix"

    def place(self) -> str:
        """Where files keep extended attributes: that is where Swift writes an object's metadata."""
        cache = CHECKOUT / ".cache"
        for place in (tempfile.gettempdir(), cache):
            Path(place).mkdir(exist_ok=True)
            if _keeps_attributes(place):
                return str(place)
        raise UnavailableError(f"neither {tempfile.gettempdir()} nor {cache} keeps user attributes")

    def command(self) -> list[str]:
        app = str(Path(__file__).with_name("_swift_app.py"))
        # -P: beside the app lies this module, which is called `swift` as well.
        arguments = [str(self.folder), str(self.port), self.access_key, self.secret_key]
        return [sys.executable, "-P", app, *arguments]

    def answers(self) -> bool:
        try:
            self.client.list_buckets()
        except (BotoCoreError, ClientError):
            return False
        return True


def _keeps_attributes(place: str | Path) -> bool:
    if not hasattr(os, "setxattr"):  # macOS, where all file systems do
        return True
    with tempfile.TemporaryFile(dir=place) as file:
        try:
            os.setxattr(file.fileno(), "user.impasto", b"1")
        except OSError:
            return False
    return True


def _split(url: str) -> tuple[str, str]:
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return bucket, prefix
