"""The database: the queue and the only truth. SQLite or Postgres; the URL decides."""

from .connection import Database, open_database

__all__ = ["Database", "open_database"]
