"""What a handler reaches the rest of the service through."""

from dataclasses import dataclass
from typing import Self, cast

from flask import current_app

from impasto.shared.database import Database, open_database
from impasto.shared.pictures.pool import Decoders
from impasto.shared.settings import Settings
from impasto.shared.storage import Storage, open_storage
from impasto.shared.wakeups import WakeUps

from ..uploads import Inspections


@dataclass(frozen=True)
class Connections:
    """The application's connections; all threads of the server share them."""

    database: Database
    storage: Storage
    wakeups: WakeUps
    decoders: Decoders
    inspections: Inspections

    @classmethod
    def open(cls, settings: Settings, decoders: Decoders, wakeups: WakeUps) -> Self:
        return cls(
            database=open_database(settings.database_url),
            storage=open_storage(settings.storage_url),
            wakeups=wakeups,
            decoders=decoders,
            inspections=Inspections(decoders, settings.max_picture_pixels),
        )

    def close(self) -> None:
        self.decoders.close()
        self.database.close()


def connections() -> Connections:
    """Those of the application that serves the present request."""
    return cast("Connections", current_app.extensions["impasto"])
