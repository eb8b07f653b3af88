"""How Alembic meets the database: over the connection that `schema.upgrade` opened."""

from alembic import context

from impasto.shared.database.tables import metadata

# Not as a batch, although SQLite can alter little in place: a batch drops the old table, and
# with each of its jobs the snapshots and attempts that refer to it.
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
