"""What is accepted and may not give what its sender wants is said with the job, and where."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.arrange.api import Api, refused, upload
from tests.arrange.pictures import paint

TINY, SMALL, USUAL = (2, 2), (10, 8), (48, 36)


def submitted(client: FlaskClient, pictures: dict[str, bytes], **fields: Any) -> dict[str, Any]:
    """The document of a job of pictures, by the field that names them."""
    ids = {field: upload(client, data) for field, data in pictures.items()}
    style: dict[str, Any] = {"asset": ids["style"]}
    if "mask" in ids:
        style["mask"] = ids["mask"]
    if "init" in ids:
        fields |= {"init": "asset", "init_asset": ids["init"]}
    spec = {"content": ids["content"], "styles": [style], "size": 128, **fields}
    answer = client.post("/v1/jobs", json=spec)
    assert answer.status_code == 202, answer.text
    return answer.json


def warned(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(warning["code"], warning["field"]) for warning in document["warnings"]]


USUAL_PICTURES = {"content": paint(301, size=USUAL), "style": paint(302, size=USUAL)}


@pytest.mark.parametrize(
    ("pictures", "fields", "expected"),
    [
        ({}, {}, []),
        ({"content": paint(303, size=SMALL)}, {}, [("enlarged", "content")]),
        ({"style": paint(304, size=SMALL)}, {}, [("enlarged", "styles.0.asset")]),
        ({"style": paint(304, size=SMALL)}, {"style_scale": 0.5}, []),
        ({"style": paint(302, size=USUAL)}, {"style_scale": 4}, [("enlarged", "styles.0.asset")]),
        ({"mask": paint(305, size=TINY)}, {}, [("enlarged", "styles.0.mask")]),
        ({"init": paint(306, size=TINY)}, {}, [("enlarged", "init_asset")]),
        ({"style": USUAL_PICTURES["content"]}, {}, [("style_is_content", "styles.0.asset")]),
        ({}, {"init": "noise", "iterations": 5}, [("few_iterations", "iterations")]),
        ({}, {"init": "noise", "iterations": 50}, []),
        ({}, {"strength": 0.01}, [("style_too_weak", "strength")]),
        ({}, {"strength": 0.1}, []),
        ({}, {"style_weight": 1e-4}, [("style_too_weak", "style_weight")]),
        ({}, {"style_weight": 1e-4, "init": "noise"}, []),
    ],
)
def test_a_job_is_warned_of(
    client: FlaskClient,
    pictures: dict[str, bytes],
    fields: dict[str, Any],
    expected: list[tuple[str, str]],
) -> None:
    document = submitted(client, USUAL_PICTURES | pictures, **fields)
    assert warned(document) == expected
    assert client.get(document["links"]["self"]).json["warnings"] == document["warnings"]


def test_a_warning_says_what_is_and_what_helps(client: FlaskClient) -> None:
    (warning,) = submitted(client, USUAL_PICTURES | {"content": paint(303, size=SMALL)})["warnings"]
    assert "it has 10 x 8 px and is enlarged 13 times, to 128 x 102 px" in warning["message"]
    assert "a smaller size" in warning["message"]


@pytest.mark.parametrize("field", ["content", "style"])
@pytest.mark.parametrize("size", [(1, 1), (7, 7), (40, 7)])
def test_a_picture_of_hardly_a_pixel_is_refused(
    api: Api, field: str, size: tuple[int, int]
) -> None:
    pictures = USUAL_PICTURES | {field: paint(307, size=size)}
    ids = {name: upload(api.client, data) for name, data in pictures.items()}
    spec = {"content": ids["content"], "styles": [ids["style"]], "size": 512}
    before = api.stored()

    problem = refused(api.client.post("/v1/jobs", json=spec), 422, "invalid_spec")

    (error,) = problem["errors"]
    assert error["field"] == {"content": "content", "style": "styles.0.asset"}[field]
    assert error["value"] == f"{size[0]} x {size[1]} px"
    assert error["accepted"] == "a picture of at least 8 px a side"
    assert api.stored() == before
