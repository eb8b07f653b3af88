"""The tree of errors, and the problem documents that it makes."""

import json
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from impasto.shared import errors
from impasto.shared.errors import ImpastoError, InvalidSpec, Violation


def tree(root: type[ImpastoError] = ImpastoError) -> Iterator[type[ImpastoError]]:
    """All classes of `shared.errors`, and none that others derived from them."""
    yield root
    for branch in root.__subclasses__():
        if branch.__module__ == errors.__name__:
            yield from tree(branch)


each_kind = pytest.mark.parametrize("kind", list(tree()))


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in tree()]

    assert len(codes) == len(set(codes)) > 20


@each_kind
def test_a_problem_document_is_whole(kind: type[ImpastoError]) -> None:
    document = json.loads(json.dumps(kind().problem(), allow_nan=False))

    assert set(document) == {"type", "title", "status", "code", "detail"}
    assert document["code"] == kind.code
    assert document["code"].replace("_", "").islower()
    assert HTTPStatus(document["status"]) >= HTTPStatus.BAD_REQUEST
    assert document["detail"] == str(kind()) == kind.__doc__
    assert document["detail"].rstrip(".") == document["title"]
    assert "\n" not in document["title"]


def test_what_a_client_can_mend_is_no_fault_of_the_server() -> None:
    mendable = {kind.code for kind in tree() if kind.status < 500}

    assert mendable >= {"invalid_spec", "not_found", "job_not_found", "idempotency_conflict"}
    assert not mendable & {"internal_error", "unavailable", "render_failed", "object_not_found"}


def test_a_detail_replaces_the_default_but_not_the_title() -> None:
    document = InvalidSpec("size is 0").problem()

    assert (document["title"], document["detail"]) == ("The job's spec is not valid", "size is 0")


def test_violations_are_reported_one_by_one() -> None:
    error = InvalidSpec(
        violations=[
            Violation("size", 0, "at least 64"),
            Violation("content", None, "required: an id"),
        ]
    )

    assert str(error) == "size is 0, accepted: at least 64; content: required: an id"
    assert error.problem()["errors"] == [
        {"field": "size", "value": 0, "accepted": "at least 64"},
        {"field": "content", "value": None, "accepted": "required: an id"},
    ]
