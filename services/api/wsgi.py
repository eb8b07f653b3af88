"""Where a WSGI server finds the API: `gunicorn 'impasto.services.api.wsgi:application()'`."""

from apiflask import APIFlask

from impasto.shared import logs, settings
from impasto.shared.pictures.pool import Decoders

from . import create_app


def application() -> APIFlask:
    """The API, from the environment."""
    loaded = settings.load()
    logs.configure(loaded)
    return create_app(loaded, Decoders().start(2))
