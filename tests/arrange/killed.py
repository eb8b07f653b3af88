"""Uploads that are killed half way, and what is seen of them afterwards."""

import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]

# Its last moment is before the bytes are on the disk, or on their way to S3.
_PUT = """
import os, signal, sys
from botocore import httpsession
from impasto.shared.storage import open_storage

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

os.fsync = httpsession.URLLib3Session.send = die
open_storage(sys.argv[1]).put(sys.argv[2], b"half", "image/png")
"""


def killed_put(storage_url: str, key: str) -> None:
    """Put an object in a process that is killed meanwhile."""
    command = [sys.executable, "-c", _PUT, storage_url, key]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL


def parts(storage_url: str) -> list[Path]:
    """The files of a folder storage that never got their names; a bucket has none."""
    where = urlsplit(storage_url)
    return list(Path(where.path).rglob("*.part")) if where.scheme == "file" else []
