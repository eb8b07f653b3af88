"""A worker's belongings, opened as the settings say: database, storage, device, weights."""

from contextlib import ExitStack
from urllib.parse import urlsplit

import torch

from impasto.shared.database import open_database, schema
from impasto.shared.pictures.pool import Decoders
from impasto.shared.settings import Settings
from impasto.shared.storage import open_storage

from . import weights
from .attempt import WorkerContext
from .engine.device import memory
from .engine.loop import Loop
from .engine.network.vgg import Vgg
from .engine.render import memory_estimate
from .lease import LeaseTimings
from .outcomes import JobRunner
from .presence import Presence
from .worker import Worker


def open_context(settings: Settings, decoders: Decoders | None = None) -> WorkerContext:
    """decoders: where pictures are decoded; the worker's own unless they are shared.

    Raises WeightsError, SchemaOutdated or Unavailable, before anything is claimed.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    with ExitStack() as opened:  # closed again if one of them cannot be opened
        database = open_database(settings.database_url)
        opened.callback(database.close)
        schema.check(database)
        found = weights.load(settings.weights, settings.home / "weights", fetch=_fetch)
        context = WorkerContext(
            database=database,
            storage=open_storage(settings.storage_url),
            vgg=Vgg(found, device(settings.device)),
            decoders=decoders or opened.enter_context(Decoders().start()),
            loop=Loop(),
            terms=LeaseTimings(
                lease_seconds=settings.lease_seconds,
                heartbeat_seconds=settings.heartbeat_seconds,
                progress_seconds=settings.progress_seconds,
                stall_seconds=settings.stall_seconds,
                drain_seconds=settings.drain_seconds,
            ),
            checkpoint_seconds=settings.checkpoint_seconds,
            outage_seconds=settings.outage_seconds,
        )
        opened.pop_all()
    return context


def announce(settings: Settings, name: str) -> Presence:
    """Tell that a worker of this name starts; over a connection that nothing else waits for.

    Raises SchemaOutdated or Unavailable.
    """
    with ExitStack() as opened:
        database = open_database(settings.database_url)
        opened.callback(database.close)
        schema.check(database)
        presence = Presence(
            database, name, slots=settings.slots, lease_seconds=settings.lease_seconds
        ).start()
        opened.pop_all()
    return presence


def open_worker(settings: Settings, context: WorkerContext, presence: Presence) -> Worker:
    """The worker that renders in this context, not started yet; its presence hears how it is."""
    runner = JobRunner(context)
    presence.measure(lambda: memory_estimate.most_pixels(memory.free_bytes(context.vgg.device)))
    presence.tell(device=_described(context.vgg.device))
    return Worker(
        context.database,
        runner.run,
        name=presence.name,
        slots=settings.slots,
        lease_seconds=settings.lease_seconds,
        idle_seconds=settings.idle_seconds,
        check=runner.check,
        alive_file=settings.alive_file,
        tell=presence.tell,
    )


def device(asked: str) -> torch.device:
    """The device of that name, or with `auto` the best that is there."""
    if asked != "auto":
        return torch.device(asked)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _described(device: torch.device) -> str:
    is_gpu = device.type == "cuda"
    return f"{device} ({torch.cuda.get_device_name(device)})" if is_gpu else str(device)


def _fetch(url: str) -> bytes:
    parts = urlsplit(url)
    return open_storage(f"s3://{parts.netloc}").get(parts.path.lstrip("/"))
