"""Where a WSGI server finds the API: `gunicorn 'services.api.wsgi:application()'`."""

from apiflask import APIFlask

from services.api import create_app
from shared import logs, settings
from shared.pictures.pool import Decoders


def application() -> APIFlask:
    """The API, from the environment."""
    loaded = settings.load()
    logs.configure(loaded)
    return create_app(loaded, Decoders().start(2))
