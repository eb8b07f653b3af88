from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console
from rich.table import Table

from impasto.services.client import tables
from impasto.services.client.documents import JobDocument
from impasto.services.client.fields import fields
from impasto.shared.settings import Settings
from impasto.shared.spec import JobSpec

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
JOB = JobDocument.model_validate(
    {
        "id": "1087043fa70a9677f953",
        "version": 3,
        "status": "failed",
        "labels": {"shop": "4", "note": "[bold]"},
        "times": {
            "created_at": NOW - timedelta(minutes=3),
            "started_at": NOW - timedelta(minutes=2),
            "finished_at": NOW - timedelta(seconds=79),
        },
        "progress": {"fraction": 0.5, "iteration": 50, "iterations": 100},
        "error": {"code": "diverged", "detail": "the loss is not a number"},
        "spec": {"size": 512, "iterations": 100, "optimizer": "lbfgs"},
        "spec_digest": "",
        "attempt": {"n": 2},
        "warnings": [{"code": "enlarged", "field": "content", "message": "it has 9 x 9 px"}],
    }
)


def text(table: Table, width: int = 120) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_a_list_has_a_line_for_each_job() -> None:
    _, line = text(tables.of_jobs([JOB], NOW)).splitlines()
    for part in (JOB.id, "failed", "50/100", "3 min 0 s ago", "41 s", "shop=4, note=[bold]"):
        assert part in line


def test_a_job_tells_what_went_wrong() -> None:
    shown = text(tables.of_job(JOB, NOW))
    for part in ("the loss is not a number", "512 px, 100 iterations of lbfgs", "attempt", "41 s"):
        assert part in shown
    assert "result" not in shown


def test_a_job_tells_what_it_is_warned_of() -> None:
    assert "warning     content: it has 9 x 9 px" in text(tables.of_job(JOB, NOW))


def test_every_field_is_listed_with_its_terms_and_its_sentence() -> None:
    shown = text(tables.of_fields(fields(JobSpec)), width=300)
    for field in fields(JobSpec):
        assert field.name in shown
        assert field.terms in shown
        assert field.description in shown


def test_every_setting_is_listed_with_its_value() -> None:
    settings = Settings(port=1234)
    table = tables.of_settings(fields(Settings), settings.model_dump(), settings.model_fields_set)
    shown = text(table, width=300)
    for field in fields(Settings):
        assert f"IMPASTO_{field.name.upper()}" in shown
    assert "1234  0 to 65535, default 7777" in shown


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.4, "59 s"), (125, "2 min 5 s"), (12000, "3 h 20 min"), (200000, "2 days")],
)
def test_spans_have_two_units_at_most(seconds: float, words: str) -> None:
    assert tables.span(timedelta(seconds=seconds)) == words
