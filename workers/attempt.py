"""One attempt at one job, from its pictures to its result: download, optimise, upload.

The device belongs to the loop. An attempt lives on a slot's thread beside it, its lease, snapshots
and checkpoints on one more each, so that neither the storage nor the database can hold up an
iteration.
"""

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import structlog
import torch
from torch import Tensor

from impasto.shared import errors, object_keys
from impasto.shared.database import Database, jobs
from impasto.shared.errors import HandedBack, Unavailable
from impasto.shared.pictures.codec import Decoded, Picture, Plane
from impasto.shared.pictures.pool import Decoders
from impasto.shared.spec import JobSpec
from impasto.shared.states import Phase
from impasto.shared.storage import Storage

from . import checkpoints, images
from .checkpoints import Checkpoints, Provenance, Saved, Unusable
from .engine.device import memory
from .engine.errors import OutOfMemory, RunOver
from .engine.loop import Event, Loop, Run, Stepped
from .engine.network.vgg import Vgg, resolve_precision
from .engine.objective.styles import StyleCache
from .engine.plan import Plan
from .engine.render.memory_estimate import fitting_side
from .engine.render.pyramid import Style
from .engine.render.render import Render
from .lease import Lease, LeaseTimings, pauses
from .loss_history import LossHistory
from .spec_to_plan import finished, in_styles_colors, plan_of, style_of

_log = structlog.get_logger(__name__)

T = TypeVar("T")


# Makes what the loop steps, on its thread, from the plan, the content uint8 (H, W, 3), the styles
# and the picture that `plan.init == "asset"` starts from.
Make = Callable[[Plan, Tensor, Sequence[Style], Tensor | None], Stepped]


@dataclass(frozen=True)
class WorkerContext:
    """What all attempts of a worker share.

    checkpoint_seconds, outage_seconds: as in the settings.
    make: the engine's `Render` unless another class, with `loop.Stepped` as its face, is to take
    its place: a test that is about everything but the device's work has one that costs nothing.
    """

    database: Database
    storage: Storage
    loop: Loop
    vgg: Vgg
    terms: LeaseTimings = field(default_factory=LeaseTimings)
    checkpoint_seconds: float = 15.0
    outage_seconds: float = 600.0
    styles: StyleCache = field(default_factory=StyleCache)
    decoders: Decoders = field(default_factory=Decoders)
    make: Make | None = None

    def close(self) -> None:
        """End its threads and processes; nothing may render here any more."""
        self.loop.close()
        self.decoders.close()

    def progress_counter(self) -> int:
        """Rises while the device gets further with any render."""
        return self.loop.progress_counter + self.vgg.progress_counter

    def render(
        self, plan: Plan, content: Tensor, styles: Sequence[Style], init: Tensor | None
    ) -> Stepped:
        """A render at its start."""
        if self.make:
            return self.make(plan, content, styles, init)
        return Render(plan, self.vgg, content, styles, init=init, cache=self.styles)


class Attempt:
    """The life of one claim."""

    def __init__(self, context: WorkerContext, job: jobs.Job, lease: Lease) -> None:
        self._context = context
        self._job = job
        self._lease = lease
        self._spec = JobSpec.model_validate(job.spec)
        self._precision = resolve_precision(self._spec.precision, context.vgg.device)
        self._folder = object_keys.attempt(job.id, job.attempt, job.claim.claim_id)
        self._loss_history = LossHistory()
        self._resumed_from = 0
        self._weights: Mapping[str, Any] = {}
        self._provenance = Provenance(
            job.spec_digest,
            context.vgg.weights.digest,
            checkpoints.environment_fingerprint(context.vgg.device, self._precision),
        )

    def render(self) -> dict[str, Any]:
        """What the job's `result` will be; the storage holds all that it points to.

        Raises Cancelled, HandedBack, LeaseLost, DeadlineExceeded, Unavailable, EngineError.
        """
        self._lease.tell(self._loss_history.progress(Phase.LOADING))
        spec = self._spec
        content = self._decoded(spec.content, spec.size)
        image = self._optimise(content.picture)
        return self._save(finished(image, content.picture, spec), content.alpha)

    def _optimise(self, own: Picture) -> images.Rendered:
        """own: the content, in its own colours."""
        spec, context = self._spec, self._context
        styles = [
            style_of(painting, spec, own, self._file, context.decoders) for painting in spec.styles
        ]
        content = in_styles_colors(own, styles, spec)
        init = None
        if spec.init_asset:
            init = torch.from_numpy(self._decoded(spec.init_asset, spec.size).picture)
        plan = plan_of(spec, self._precision)

        saved = self._resume()
        built: list[Stepped] = []

        def build() -> Stepped:
            render = context.render(plan, torch.from_numpy(content), styles, init)
            if saved:
                render.load_state_dict(saved.state)
            built.append(render)
            return render

        with ExitStack() as stack:
            snapshots = stack.enter_context(
                _Snapshots(context, self._job.claim, self._folder, spec, own)
            )
            keep = stack.enter_context(
                Checkpoints(context.database, context.storage, self._job.claim)
            )
            self._lease.watch(context.progress_counter)
            run = stack.enter_context(
                context.loop.admit(build, spec.snapshot_every, is_alone=spec.exact)
            )
            try:
                last = self._follow(run, snapshots, keep)
            except HandedBack:
                self._leave_a_checkpoint(run, snapshots, keep)
                raise
            except OutOfMemory as error:
                raise self._too_large(plan, content) from error
            self._lease.finish()
        assert last.image is not None
        self._weights = built[0].weights()
        return last.image.numpy()

    def _too_large(self, plan: Plan, content: Picture) -> errors.OutOfMemory:
        """Says which size would have fitted into what is free now that the render has gone."""
        height, width, _ = content.shape
        told = f"{width} x {height} px do not fit, not even alone and in strips"
        free_bytes = memory.free_bytes(self._context.vgg.device)
        side = fitting_side(plan, height, width, free_bytes)
        if side < max(height, width):
            told += f"; the {free_bytes / 2**20:.0f} MiB that are free take a size of up to {side}"
        return errors.OutOfMemory(told)

    def _resume(self) -> Saved | None:
        """The latest usable checkpoint; the loss history and the job's row continue from it."""
        database, claim = self._context.database, self._job.claim
        for kept in self._patiently(lambda: jobs.checkpoints(database, claim.job_id)):
            log = _log.bind(job=claim.job_id, iteration=kept.iteration)
            try:
                saved = self._patiently(
                    partial(checkpoints.fetch, self._context.storage, kept, self._spec.iterations)
                )
                self._provenance = self._provenance.after(saved.provenance)
            except Unusable as error:
                log.warning("checkpoint_unusable", key=kept.key, detail=error.detail)
                self._patiently(partial(jobs.discard_checkpoint, database, claim, kept))
                continue
            self._patiently(partial(jobs.resume, database, claim, saved.iteration))
            self._resumed_from = saved.iteration
            self._loss_history = LossHistory(saved.history)
            log.info("resumed", continuation=self._provenance.continuation)
            return saved
        return None

    def _follow(self, run: Run, snapshots: "_Snapshots", keep: Checkpoints) -> Event:
        """The last event of a run; meanwhile progress is told, and states are kept."""
        context, lease = self._context, self._lease
        told = kept = time.monotonic()
        asked: Future[dict[str, Tensor]] | None = None
        last = None
        while not run.is_over:
            if found := self._read(run, snapshots, context.terms.progress_seconds):
                if last is None:
                    lease.watch(context.progress_counter, context.terms.stall_seconds)
                last = found
            lease.check()
            now = time.monotonic()
            if last and now - told >= context.terms.progress_seconds:
                lease.tell(self._loss_history.progress(Phase.RENDERING))
                told = now
            if asked and asked.done():
                self._keep(asked, keep)
                asked = None
            if asked or keep.is_busy:
                kept = now  # from its end on: a slow storage has less to do, not ever more
            elif last and now - kept >= context.checkpoint_seconds:
                asked = run.state()
        assert last is not None
        return last

    def _read(self, run: Run, snapshots: "_Snapshots", timeout: float) -> Event | None:
        """The last event that there is now, all of them noted."""
        every = self._spec.snapshot_every
        last = None
        for event in run.events(timeout):
            self._loss_history.enter(event.progress)
            iteration = event.progress.iteration
            if event.image is not None and every and iteration and iteration % every == 0:
                snapshots.take(iteration, event.image.numpy())
            last = event
        return last

    def _leave_a_checkpoint(self, run: Run, snapshots: "_Snapshots", keep: Checkpoints) -> None:
        """For whoever takes the job over; in the time that is left before it is handed back."""
        asked = run.state()
        try:
            asked.result(self._lease.drain_seconds_left)
            self._read(run, snapshots, timeout=0)
            self._keep(asked, keep)
            keep.wait(self._lease.drain_seconds_left)
            snapshots.wait(self._lease.drain_seconds_left)
        except RunOver:  # it has ended meanwhile, and is ended once more from the one before
            return
        except TimeoutError:
            _log.warning("no_checkpoint_left", job=self._job.id)

    def _keep(self, asked: Future[dict[str, Tensor]], keep: Checkpoints) -> None:
        try:
            state = asked.result()
        except RunOver:  # it has ended meanwhile
            return
        history = self._loss_history.until(int(state["iteration"]))
        if history and history[-1].iteration > self._resumed_from:
            keep.keep(Saved(state, history, self._provenance))

    def _decoded(self, asset_id: str, long_side: int) -> Decoded:
        return self._context.decoders.decode(self._file(asset_id), long_side)

    def _file(self, asset_id: str) -> bytes:
        return self._patiently(lambda: self._context.storage.get(object_keys.asset(asset_id)))

    def _put(self, key: str, data: bytes, media_type: str) -> None:
        self._patiently(lambda: self._context.storage.put(key, data, media_type))

    def _patiently(self, act: Callable[[], T]) -> T:
        """What an act gives, tried again while storage or database are out of reach.

        Raises Unavailable after `outage_seconds`, or at once where the storage is full.
        """
        until = time.monotonic() + self._context.outage_seconds
        for pause in pauses():
            self._lease.check()
            try:
                return act()
            except Unavailable as error:
                if error.code != Unavailable.code or time.monotonic() + pause >= until:
                    raise
                _log.warning("outage", job=self._job.id, detail=error.detail)
            self._lease.wait(pause)
        raise AssertionError("there is always one more pause")

    def _save(self, image: images.Rendered, alpha: Plane | None) -> dict[str, Any]:
        """Upload the result and what explains it, then say where they lie."""
        self._lease.tell(self._loss_history.progress(Phase.SAVING))
        folder, spec = self._folder, self._spec
        data = images.encode(image, spec.format, bits=spec.bits, quality=spec.quality, alpha=alpha)
        result = {
            "key": object_keys.result(folder, spec.media_type),
            "losses_key": object_keys.losses(folder),
            "manifest_key": object_keys.manifest(folder),
            "media_type": spec.media_type,
            "width": image.shape[1],
            "height": image.shape[0],
            "size_bytes": len(data),
            "sha256": object_keys.digest(data),
        }
        self._put(result["key"], data, spec.media_type)
        self._put(result["losses_key"], self._loss_history.csv(), "text/csv")
        manifest = json.dumps(self._manifest(result), indent=2).encode()
        self._put(result["manifest_key"], manifest, "application/json")
        return result

    def _manifest(self, result: dict[str, Any]) -> dict[str, Any]:
        """How the picture came to be; its spec, run again, gives the same one."""
        job, vgg = self._job, self._context.vgg
        made = self._patiently(lambda: jobs.view(self._context.database, job.id)).attempts
        return {
            "job": job.id,
            "spec": job.spec,
            "spec_digest": job.spec_digest,
            "inputs": self._spec.assets(),
            "weights": {"name": vgg.weights.name, "sha256": vgg.weights.digest},
            "effective": self._weights,
            "seed": self._spec.seed,
            "iterations": self._loss_history.iterations,
            "best_iteration": self._loss_history.best,
            "losses": self._loss_history.losses(),
            "result": {name: result[name] for name in ("sha256", "width", "height", "media_type")},
            "attempt": job.attempt,
            "failures": job.failures,
            "attempts": [
                {
                    "n": attempt.attempt,
                    "resumed_from_iteration": attempt.resumed_from_iteration,
                    "end": attempt.end,
                }
                for attempt in made
            ],
            "resumed_from_iteration": self._resumed_from,
            "continuation": self._provenance.continuation,
            "device": str(vgg.device),
            "precision": self._precision,
            "threads": torch.get_num_threads(),
            "platform": platform.platform(),
            "versions": {
                "python": platform.python_version(),
                **{name: self._provenance.place[name] for name in checkpoints.VERSIONS},
            },
            "times": {name: at.isoformat() for name, at in self._loss_history.times.items()},
        }


class _Snapshots:
    """Encodes and uploads pictures of the progress, one after the other, on its own thread."""

    def __init__(
        self,
        context: WorkerContext,
        claim: jobs.Claim,
        folder: str,
        spec: JobSpec,
        content: Picture,
    ) -> None:
        self._context = context
        self._claim = claim
        self._folder = folder
        self._spec = spec
        self._content = content
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="snapshots")
        self._taken: list[Future[None]] = []

    def __enter__(self) -> "_Snapshots":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        is_whole = kind is None
        self._thread.shutdown(wait=is_whole, cancel_futures=not is_whole)
        if is_whole:
            self.wait()

    def take(self, iteration: int, image: images.Rendered) -> None:
        self._taken.append(self._thread.submit(self._keep, iteration, image))

    def wait(self, timeout_seconds: float | None = None) -> None:
        """Until all are kept, or lost. Raises TimeoutError."""
        if self._taken and wait(self._taken, timeout_seconds).not_done:
            raise TimeoutError
        for upload in self._taken:
            upload.result()

    def _keep(self, iteration: int, image: images.Rendered) -> None:
        form = self._spec.snapshot_format
        media_type = f"image/{form}"
        key = object_keys.snapshot(self._folder, iteration, media_type)
        try:
            image = finished(image, self._content, self._spec)
            data = images.encode_snapshot(image, form)
            self._context.storage.put(key, data, media_type)
            jobs.add_snapshot(self._context.database, self._claim, iteration, key)
        except Unavailable as error:  # a picture of the progress is not worth the render
            _log.warning("snapshot_lost", job=self._claim.job_id, detail=error.detail)
