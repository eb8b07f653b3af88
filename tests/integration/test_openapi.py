"""The API does what openapi.json says, for requests that nobody thought of."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.arrange.api import Api, finish, spec, submit
from tests.arrange.pictures import paint

CONFIG = schemathesis.Config.from_dict({"generation": {"database": "none"}})

few = settings(
    max_examples=12,  # of each operation, in each test
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def api(another_api: Callable[..., Api]) -> Api:
    return another_api().prepare()


@pytest.fixture
def operations(api: Api) -> list[APIOperation]:
    def closing_app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        # Schemathesis lets go of no answer.
        with closing(api.app(environ, start_response)) as body:
            return [b"".join(body)]

    published = schemathesis.openapi.from_wsgi("/openapi.json", closing_app, config=CONFIG)
    schemathesis.openapi.format("binary", st.sampled_from([paint(1), paint(2, "JPEG")]))
    return [found.ok() for found in published.get_all_operations()]


def test_every_valid_request_is_answered_as_promised(
    api: Api, operations: list[APIOperation]
) -> None:
    known = {"job_id": submit(api.client)["id"], "asset_id": spec(api.client)["content"]}
    finish(api, known["job_id"])
    for operation in operations:
        path = {name: value for name, value in known.items() if f"{{{name}}}" in operation.path}

        @few
        @given(operation.as_strategy(path_parameters=path or None))
        def exercise(case: Case) -> None:
            # A schema cannot say that a form's text is JSON, or which fields go together.
            excluded = [positive_data_acceptance] if case.operation.body else []
            case.call_and_validate(excluded_checks=excluded)

        exercise()


def test_every_invalid_request_is_refused_as_promised(operations: list[APIOperation]) -> None:
    tried = 0
    for operation in operations:
        if not (operation.body or operation.query or operation.path_parameters):
            continue  # nothing of it can be wrong

        @few
        @given(operation.as_strategy(GenerationMode.NEGATIVE))
        def exercise(case: Case) -> None:
            case.call_and_validate()

        exercise()
        tried += 1
    assert tried > 5


def test_everything_is_described(api: Api) -> None:
    published = api.client.get("/openapi.json").json
    rules = {
        (rule.rule.replace("<int:", "{").replace("<", "{").replace(">", "}"), method.lower())
        for rule in api.app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if rule.endpoint != "openapi.spec"
    }
    assert {
        (path, method) for path in published["paths"] for method in published["paths"][path]
    } == rules
    for operation in _operations(published):
        assert operation["summary"]
        assert all(parameter["description"] for parameter in operation["parameters"])
        assert {"500", "503"} <= operation["responses"].keys()
        for status, response in operation["responses"].items():
            assert response["description"], operation["operationId"]
            if status >= "400":
                assert list(response["content"]) == ["application/problem+json"]
    body = published["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "multipart/form-data"}


def test_every_answer_has_a_type(api: Api) -> None:
    published = api.client.get("/openapi.json").json
    assert published["security"] == []  # it has no authentication
    bare = {"type": "object", "additionalProperties": True}
    assert [path for path, node in _nodes(published) if bare.items() <= node.items()] == []
    for operation in _operations(published):
        for response in operation["responses"].values():
            for media_type, content in response.get("content", {}).items():
                is_file = content["schema"].get("format") == "binary"
                assert is_file == media_type.startswith("image/"), operation["operationId"]


def test_no_number_is_larger_than_javascript_keeps(api: Api) -> None:
    for path, node in _nodes(api.client.get("/openapi.json").json):
        if node.get("type") == "integer":
            assert node.get("maximum", 0) <= 2**53 - 1, path


def _nodes(node: Any, path: str = "") -> Iterator[tuple[str, dict]]:
    if isinstance(node, dict):
        yield path, node
        for name, value in node.items():
            yield from _nodes(value, f"{path}/{name}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _nodes(value, f"{path}/{index}")


def test_it_names_no_server_but_the_one_that_was_asked(api: Api) -> None:
    answer = api.client.get("/openapi.json", base_url="http://elsewhere.example")
    assert answer.json["servers"] == [{"url": "/"}]
    assert "elsewhere" not in answer.text


def _operations(published: dict) -> Iterator[dict]:
    for path in published["paths"].values():
        yield from path.values()
