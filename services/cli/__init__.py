"""The command `impasto`.

A command imports what it needs when it runs, so that `impasto --help` is there at once.
"""

from . import jobs, pictures, reference, service  # they register their commands
from .app import INTERRUPTED, REFUSED, app

__all__ = ["INTERRUPTED", "REFUSED", "app", "jobs", "main", "pictures", "reference", "service"]


def main() -> None:
    app(prog_name="impasto")
