"""The HTTP API: `create_app` makes it from the settings; each module serves one resource."""

from importlib.metadata import version

from apiflask import APIFlask

from impasto.shared.pictures.pool import Decoders
from impasto.shared.settings import Settings
from impasto.shared.wakeups import WakeUps, open_wakeups

from . import bodies, inputs, openapi, tracing
from .assets import assets
from .connections import Connections
from .health import health
from .jobs import jobs
from .problems import problems

__all__ = ["create_app"]


def create_app(
    settings: Settings, decoders: Decoders | None = None, wakeups: WakeUps | None = None
) -> APIFlask:
    """The WSGI application; it connects when it must, so it starts while others are still away.

    decoders: where pictures are decoded; the application's own unless they are shared.
    wakeups: what a new job is told to; opened as the settings say unless they are shared.
    `app.extensions["impasto"].close()` lets go of them, and of the database.
    """
    app = APIFlask(
        "impasto.services.api",
        title="Impasto",
        version=version("impasto"),
        docs_path=None,  # APIFlask's pages load scripts from other people's servers
        json_errors=False,  # `problems` answers them
        static_folder=None,  # type: ignore[arg-type]  # Flask takes it
    )
    app.config["MAX_CONTENT_LENGTH"] = settings.max_upload_bytes
    app.json.sort_keys = False  # type: ignore[attr-defined]  # of the default provider
    app.extensions["impasto"] = Connections.open(
        settings, decoders or Decoders(), wakeups or open_wakeups(settings.broker_url)
    )
    tracing.install(app)
    openapi.install(app)
    app.url_map.merge_slashes = False  # /v1//jobs is no address, and leads to none
    app.before_request(bodies.guard)
    for check in (inputs.check_host, inputs.check_target, inputs.check_path, inputs.check_query):
        app.before_request(check)
    for blueprint in (health, assets, jobs, problems):
        app.register_blueprint(blueprint)
    return app
