"""One attempt at one job, from its pictures to its result: download, optimise, upload.

The device belongs to the loop. An attempt lives on a slot's thread beside it, and its snapshots on
one more, so that neither the storage nor the database can hold up an iteration.
"""

import json
import platform
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import structlog
import torch

from shared import keys
from shared.database import Database, jobs
from shared.errors import Unavailable
from shared.spec import JobSpec
from shared.spec import Style as Painting
from shared.states import Phase
from shared.storage import Storage
from workers import colors, images
from workers.engine.loop import Event, Loop, Run
from workers.engine.plan import Plan
from workers.engine.render import Render, Style
from workers.engine.styles import StyleCache
from workers.engine.vgg import Precision, Vgg, resolve_precision
from workers.journal import Journal
from workers.lease import Lease

_log = structlog.get_logger(__name__)

_VERSIONS = ("impasto", "torch", "numpy", "pillow")


@dataclass(frozen=True)
class Studio:
    """What all attempts of a worker share."""

    database: Database
    storage: Storage
    loop: Loop
    vgg: Vgg
    lease_seconds: float
    progress_seconds: float
    styles: StyleCache = field(default_factory=StyleCache)


class Attempt:
    """The life of one claim."""

    def __init__(self, studio: Studio, job: jobs.Job, stopping: threading.Event) -> None:
        self._studio = studio
        self._job = job
        self._spec = JobSpec.model_validate(job.spec)
        self._precision = resolve_precision(self._spec.precision, studio.vgg.device)
        self._folder = keys.attempt(job.id, job.attempt, job.claim.claim_id)
        self._lease = Lease(studio.database, job, studio.lease_seconds, stopping)
        self._journal = Journal()

    def render(self) -> dict[str, Any]:
        """What the job's `result` will be; the storage holds all that it points to.

        Raises Cancelled, HandedBack, LeaseLost, DeadlineExceeded, Unavailable, EngineError.
        """
        spec = self._spec
        content, alpha = images.decode_with_alpha(self._file(spec.content), spec.size)
        image = self._optimise(content)
        if spec.original_colors == "luminance":
            image = colors.with_colors_of(image, content)
        return self._save(image, alpha)

    def _optimise(self, content: images.Picture) -> images.Rendered:
        spec, studio = self._spec, self._studio
        styles = [style_of(painting, spec, content, self._file) for painting in spec.styles]
        init = torch.tensor(self._picture(spec.init_asset, spec.size)) if spec.init_asset else None
        plan = plan_of(spec, self._precision)

        def build() -> Render:
            return Render(
                plan, studio.vgg, torch.tensor(content), styles, init=init, cache=studio.styles
            )

        with ExitStack() as stack:
            snapshots = stack.enter_context(_Snapshots(studio, self._job.claim, self._folder))
            run = stack.enter_context(
                studio.loop.admit(build, spec.snapshot_every, is_alone=spec.exact)
            )
            last = self._follow(run, snapshots)
        assert last.image is not None
        return last.image.numpy()

    def _follow(self, run: Run, snapshots: "_Snapshots") -> Event:
        """The last event of a run; meanwhile progress is written, and wishes are heard."""
        every = self._spec.snapshot_every
        written = time.monotonic()
        while not run.is_over:
            for event in run.events(timeout=self._studio.progress_seconds):
                self._journal.enter(event.progress)
                iteration = event.progress.iteration
                if event.image is not None and every and iteration and iteration % every == 0:
                    snapshots.take(iteration, event.image.numpy())
                last = event
            self._lease.heed()
            if time.monotonic() - written >= self._studio.progress_seconds:
                self._lease.report(self._journal.progress(Phase.RENDERING))
                written = time.monotonic()
        return last

    def _picture(self, asset_id: str, long_side: int) -> images.Picture:
        return images.decode(self._file(asset_id), long_side)

    def _file(self, asset_id: str) -> bytes:
        self._lease.heed()
        return self._studio.storage.get(keys.asset(asset_id))

    def _save(self, image: images.Rendered, alpha: images.Plane | None) -> dict[str, Any]:
        """Upload the result and what explains it, then say where they lie."""
        self._lease.report(self._journal.progress(Phase.SAVING))
        storage, folder, spec = self._studio.storage, self._folder, self._spec
        data = images.encode(image, spec.format, bits=spec.bits, quality=spec.quality, alpha=alpha)
        result = {
            "key": keys.result(folder, spec.media_type),
            "losses_key": keys.losses(folder),
            "manifest_key": keys.manifest(folder),
            "media_type": spec.media_type,
            "width": image.shape[1],
            "height": image.shape[0],
            "size_bytes": len(data),
            "sha256": keys.digest(data),
        }
        storage.put(result["key"], data, spec.media_type)
        storage.put(result["losses_key"], self._journal.csv(), "text/csv")
        manifest = json.dumps(self._manifest(result), indent=2).encode()
        storage.put(result["manifest_key"], manifest, "application/json")
        return result

    def _manifest(self, result: dict[str, Any]) -> dict[str, Any]:
        """How the picture came to be; its spec, run again, gives the same one."""
        job, vgg = self._job, self._studio.vgg
        return {
            "job": job.id,
            "spec": job.spec,
            "spec_digest": job.spec_digest,
            "inputs": self._spec.assets(),
            "weights": {"name": vgg.weights.name, "sha256": vgg.weights.digest},
            "seed": self._spec.seed,
            "iterations": self._journal.iterations,
            "losses": self._journal.losses(),
            "result": {name: result[name] for name in ("sha256", "width", "height", "media_type")},
            "attempt": job.attempt,
            "failures": job.failures,
            "device": str(vgg.device),
            "precision": self._precision,
            "threads": torch.get_num_threads(),
            "platform": platform.platform(),
            "versions": {
                "python": platform.python_version(),
                **{name: metadata.version(name) for name in _VERSIONS},
            },
            "times": {name: at.isoformat() for name, at in self._journal.times.items()},
        }


def plan_of(spec: JobSpec, precision: Precision) -> Plan:
    """The engine's plan for a spec."""
    same = spec.model_dump(
        include={
            "iterations",
            "optimizer",
            "learning_rate",
            "init",
            "seed",
            "content_layers",
            "style_layers",
            "content_weight",
            "style_weight",
            "tv_weight",
            "normalize_gradients",
            "pooling",
            "pyramid",
            "patience",
        }
    )
    return Plan(**same, precision=precision)


def style_of(
    painting: Painting, spec: JobSpec, content: images.Picture, file: Callable[[str], bytes]
) -> Style:
    """The engine's style for one of a spec: in its size and colours, and where it applies.

    content: of the canvas's size.
    file: gives the bytes of an asset.
    """
    picture, name = images.decode(file(painting.asset), spec.style_side), painting.asset
    if match := colors.MATCHED.get(spec.original_colors):
        picture = match(picture, content)
        # With its size: in another one, the content's colours are not quite the same.
        name = f"{name}~{spec.original_colors}~{spec.content}@{spec.size}"
    mask = None
    if painting.mask:
        height, width, _ = content.shape
        mask = torch.tensor(images.decode_mask(file(painting.mask), width, height))
    return Style(torch.tensor(picture), painting.weight, name, mask)


class _Snapshots:
    """Encodes and uploads pictures of the progress, one after the other, on its own thread."""

    def __init__(self, studio: Studio, claim: jobs.Claim, folder: str) -> None:
        self._studio = studio
        self._claim = claim
        self._folder = folder
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="snapshots")
        self._taken: list[Future[None]] = []

    def __enter__(self) -> "_Snapshots":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._thread.shutdown(cancel_futures=kind is not None)
        if kind is None:
            for upload in self._taken:
                upload.result()

    def take(self, iteration: int, image: images.Rendered) -> None:
        self._taken.append(self._thread.submit(self._keep, iteration, image))

    def _keep(self, iteration: int, image: images.Rendered) -> None:
        key = keys.snapshot(self._folder, iteration)
        try:
            self._studio.storage.put(key, images.encode_snapshot(image), "image/jpeg")
            jobs.add_snapshot(self._studio.database, self._claim, iteration, key)
        except Unavailable as error:  # a picture of the progress is not worth the render
            _log.warning("snapshot_lost", job=self._claim.job_id, detail=error.detail)
