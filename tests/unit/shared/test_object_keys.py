"""Where things lie."""

import hashlib

from impasto.shared import object_keys

FOLDER = object_keys.attempt("job1", 2, "c0ffee")


def test_an_asset_lies_under_the_digest_of_its_bytes() -> None:
    digest = object_keys.digest(b"abc")

    assert digest == hashlib.sha256(b"abc").hexdigest()
    assert object_keys.asset(digest) == f"assets/{digest[:2]}/{digest}"


def test_the_objects_of_an_attempt_lie_in_its_folder() -> None:
    assert FOLDER == "jobs/job1/2-c0ffee"
    assert object_keys.snapshot(FOLDER, 100) == f"{FOLDER}/snapshots/000100.jpg"
    assert object_keys.checkpoint(FOLDER, 30) == f"{FOLDER}/checkpoints/000030.safetensors"
    assert object_keys.result(FOLDER, "image/png") == f"{FOLDER}/result.png"
    assert object_keys.result(FOLDER, "image/jpeg") == f"{FOLDER}/result.jpg"
    assert object_keys.result(FOLDER, "image/webp") == f"{FOLDER}/result.webp"
    assert object_keys.losses(FOLDER) == f"{FOLDER}/losses.csv"
    assert object_keys.manifest(FOLDER) == f"{FOLDER}/manifest.json"


def test_a_pictures_type_is_read_from_where_it_lies() -> None:
    for media_type in object_keys.SUFFIXES:
        assert object_keys.media_type(object_keys.snapshot(FOLDER, 7, media_type)) == media_type
        assert object_keys.media_type(object_keys.result(FOLDER, media_type)) == media_type


def test_no_two_attempts_share_a_folder() -> None:
    folders = {
        object_keys.attempt("job1", 2, "c0ffee"),
        object_keys.attempt("job1", 3, "c0ffee"),
        object_keys.attempt("job1", 2, "decade"),
        object_keys.attempt("job2", 2, "c0ffee"),
    }

    assert len(folders) == 4


def test_snapshots_sort_by_iteration() -> None:
    iterations = [0, 9, 10, 100, 10_000]

    assert sorted(object_keys.snapshot(FOLDER, i) for i in iterations) == [
        object_keys.snapshot(FOLDER, i) for i in iterations
    ]
