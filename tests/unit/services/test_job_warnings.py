"""Warnings that need pictures which no encoder here writes."""

from impasto.services.job_warnings import find_warnings
from impasto.shared.database.jobs import JobWarning
from impasto.shared.pictures.codec import Facts
from impasto.shared.spec import JobSpec

CONTENT, STYLE, MASK = "a" * 64, "b" * 64, "c" * 64
PLAIN = Facts("image/png", 640, 480)
ODD = Facts("image/png", 640, 480, warnings=("its profile is damaged", "it has two of them"))


def test_what_is_known_of_a_picture_is_said_with_each_field_that_names_it() -> None:
    spec = JobSpec(content=CONTENT, styles=[{"asset": STYLE, "mask": MASK}, CONTENT])

    found = find_warnings(spec, {CONTENT: ODD, STYLE: PLAIN, MASK: PLAIN})

    assert [warning for warning in found if warning.code == "picture"] == [
        JobWarning("picture", field, message)
        for field in ("content", "styles.1.asset")
        for message in ("its profile is damaged", "it has two of them")
    ]


def test_a_stretched_mask_is_measured_by_its_worse_side() -> None:
    spec = JobSpec(content=CONTENT, styles=[{"asset": STYLE, "mask": MASK}])
    narrow = Facts("image/png", 512, 30)

    found = find_warnings(spec, {CONTENT: PLAIN, STYLE: PLAIN, MASK: narrow})

    assert [(warning.code, warning.field) for warning in found] == [("enlarged", "styles.0.mask")]
    assert "13 times, to 512 x 384 px" in found[0].message
