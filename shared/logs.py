"""Log lines as events: text for people at a terminal, one JSON document per line for machines."""

import logging
import sys

import structlog
from structlog.types import Processor

from .settings import Settings

# Said by the libraries at "info" for each job or request, where our own lines say more.
_QUIETER = ("alembic", "botocore", "celery", "kombu", "waitress", "werkzeug")


def configure(settings: Settings) -> None:
    """Write the events of this process, and the log lines of its libraries, to stderr."""
    is_text = settings.log_format == "text" or (
        settings.log_format == "auto" and sys.stderr.isatty()
    )
    described: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *described,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    rendered: list[Processor] = (
        [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                # The others show the variables, and so the passwords.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
        if is_text
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=described,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    level = settings.log_level.upper()
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name in _QUIETER:
        logging.getLogger(name).setLevel(level if level != "INFO" else "WARNING")
    logging.captureWarnings(True)
