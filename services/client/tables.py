"""Jobs, fields and settings as they look on a terminal."""

from collections.abc import Iterable, Mapping, Set
from datetime import datetime, timedelta
from typing import Any

from rich.table import Table
from rich.text import Text

from impasto.shared.recipes import Recipe, RecipeName
from impasto.shared.settings import PREFIX
from impasto.shared.states import State

from .documents import JobDocument, JobSummary
from .fields import Field, written
from .progress import described

QUIET, LOUD = "bright_black", "dark_orange"
_COLORS = {
    State.QUEUED: "cyan",
    State.RUNNING: LOUD,
    State.SUCCEEDED: "green",
    State.FAILED: "red",
    State.CANCELLED: QUIET,
}


def of_jobs(jobs: Iterable[JobSummary], now: datetime) -> Table:
    table = Table(box=None, header_style=QUIET, padding=(0, 3, 0, 0))
    for column in ("job", "status", "progress", "submitted", "took"):
        table.add_column(column, no_wrap=True)
    table.add_column("labels")
    for job in jobs:
        table.add_row(
            job.id,
            _status(job),
            f"{job.progress.iteration}/{job.progress.iterations}",
            f"{span(now - job.times.created_at)} ago",
            took(job, now),
            Text(_pairs(job.labels)),
        )
    return table


def of_job(job: JobDocument, now: datetime) -> Table:
    """What is to be said of a job; what there is nothing to say of is left out."""
    spec, error = job.spec, job.error
    facts: dict[str, str | Text | None] = {
        "job": job.id,
        "status": _status(job),
        "progress": described(job),
        "submitted": f"{span(now - job.times.created_at)} ago",
        "took": took(job, now),
        "asks for": f"{spec['size']} px, {spec['iterations']} iterations of {spec['optimizer']}",
        "labels": _pairs(job.labels),
        "worker": job.attempt.worker,
        "attempt": str(job.attempt.n) if job.attempt.n > 1 else None,
        "result": size(job),
        "error": Text(error.get("detail", ""), "red") if error else None,
    }
    table = _grid()
    for name, fact in facts.items():
        if fact:
            table.add_row(Text(name, QUIET), fact if isinstance(fact, Text) else Text(fact))
    for warning in job.warnings:
        table.add_row(Text("warning", LOUD), Text(str(warning)))
    return table


def of_fields(fields: Iterable[Field]) -> Table:
    """What each accepts, what it is by default, and what it means."""
    table = _grid()
    for field in fields:
        table.add_row(field.name, Text(field.terms or field.kind.lower(), QUIET))
        table.add_row("", Text(field.description))
    return table


def of_recipes(recipes: Mapping[RecipeName, Recipe]) -> Table:
    """What each means, and the fields that it stands for."""
    table = _grid()
    for name, recipe in recipes.items():
        fields = ", ".join(f"{field}: {written(value)}" for field, value in recipe.fields.items())
        table.add_row(name, Text(recipe.meaning))
        table.add_row("", Text(fields or "nothing but defaults", QUIET))
    return table


def of_settings(fields: Iterable[Field], values: Mapping[str, Any], given: Set[str]) -> Table:
    """values: by the field's name. given: which of them somebody set; these stand out."""
    table = _grid()
    for field in fields:
        value = Text(str(values[field.name]), LOUD * (field.name in given))
        terms = Text(f"  {field.terms}" if field.terms else "", QUIET)
        table.add_row(f"{PREFIX}{field.name.upper()}", value + terms)
        table.add_row("", Text(field.description))
    return table


def of_workers(workers: Iterable[Any]) -> Table:
    """workers: rows of `impasto.shared.database.workers.list_workers`."""
    table = _grid()
    for worker in workers:
        state = worker.state.value.replace("_", " ") if worker.is_alive else "gone"
        color = "green" if state == "ready" else QUIET if state == "gone" else "red"
        slots = f"{worker.busy_slots} of {worker.slots} slots busy"
        seen = f"seen {span(worker.at - worker.heartbeat_at)} ago"
        process = f"pid {worker.pid} on {worker.host}"
        table.add_row(worker.name, Text(state, color) + Text(f", {slots}, {seen}"))
        facts = (worker.device, process, _pairs(worker.versions))
        table.add_row("", Text(", ".join(filter(None, facts)), QUIET))
        if worker.is_alive and worker.code:
            table.add_row("", Text(f"{worker.code}: {worker.detail}", "red"))
    return table


def of_invariants(invariants: Mapping[str, str], broken: Set[str]) -> Table:
    table = _grid()
    for name, meaning in invariants.items():
        told = Text("broken", "red") if name in broken else Text("holds", "green")
        table.add_row(name, Text(meaning), told)
    return table


def took(job: JobSummary, now: datetime | None = None) -> str:
    """For how long it was rendered, so far; nothing before it began."""
    begun, ended = job.times.started_at, job.times.finished_at or now
    return span(ended - begun) if begun and ended else ""


def size(job: JobDocument) -> str:
    return f"{job.result.width} × {job.result.height} px" if job.result else ""


def span(time: timedelta) -> str:
    """`41 s`, `2 min 5 s`, `3 h 20 min`, `5 days`"""
    minutes, seconds = divmod(max(0, round(time.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} days"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _grid() -> Table:
    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_column(no_wrap=True)
    return table


def _status(job: JobSummary) -> Text:
    return Text(job.status.value, _COLORS[job.status])


def _pairs(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in labels.items())
