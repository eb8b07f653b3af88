"""The command line as far as it goes without a server."""

import json
import os
import re
import subprocess
import sys
from contextlib import closing
from importlib import metadata
from pathlib import Path

import pytest
from rich.text import Text
from typer.testing import CliRunner, Result

from impasto.services import cli, client
from impasto.services.audit import INVARIANTS
from impasto.services.cli.app import in_one_line
from impasto.services.cli.options import style
from impasto.services.cli.pictures import described
from impasto.shared.database import open_database, workers
from impasto.shared.errors import InvalidImage, InvalidSetting, Violation
from impasto.shared.object_keys import digest
from impasto.shared.recipes import NAMES
from impasto.shared.spec import JobSpec
from impasto.shared.states import WorkerState
from tests.arrange.pictures import paint
from tests.arrange.worker import identity

HEAVY = ("PIL", "alembic", "boto3", "celery", "flask", "httpx2", "pydantic", "sqlalchemy", "torch")
NOT_THE_CLIENTS = ("alembic", "apiflask", "boto3", "celery", "flask", "sqlalchemy", "torch")


def impasto(*args: str | Path, **environment: str) -> Result:
    """What a command answers where no other settings are in the environment than these."""
    outside = {name: None for name in os.environ if name.startswith("IMPASTO_")}
    env = {**outside, "COLUMNS": "200", **environment}
    return CliRunner().invoke(cli.app, [*map(str, args)], env=env)


def plain(output: str) -> str:
    """Without the colours, which GitHub's runners are always given."""
    return Text.from_ansi(output).plain


def loaded(code: str, names: tuple[str, ...]) -> set[str]:
    """Which of the packages a fresh Python has imported after the code."""
    told = f"{code}\nimport sys\nsys.stderr.write(repr(set(sys.modules) & set({names!r})))"
    python = [sys.executable, "-c", told]
    done = subprocess.run(python, capture_output=True, text=True, timeout=60, check=True)
    return set(eval(done.stderr))  # noqa: S307


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "photo.png", tmp_path / "painting.png"
    for seed, path in enumerate(paths):
        path.write_bytes(paint(seed))
    return paths


def test_the_help_waits_for_nothing_that_it_does_not_need() -> None:
    code = "from impasto.services.cli import app\napp(['--help'], standalone_mode=False)"
    assert loaded(code, HEAVY) == set()


def test_the_client_needs_neither_server_nor_torch() -> None:
    modules = sorted(path.stem for path in Path(client.__file__).parent.glob("*.py"))
    code = "\n".join(f"import impasto.services.client.{name}" for name in modules)
    assert loaded(code, (*NOT_THE_CLIENTS, "pydantic")) == {"pydantic"}


def test_the_help_names_every_command_with_its_sentence() -> None:
    shown = plain(impasto("--help").output)
    for command in cli.app.registered_commands:
        assert command.rich_help_panel in shown
        sentence, *_ = (command.callback.__doc__ or "").partition(".")
        assert sentence in shown


def test_the_recipes_are_listed_with_their_fields() -> None:
    told = json.loads(impasto("recipes", "--json").output)
    assert list(told) == list(NAMES)
    assert told["report"]["fields"]["style_weight"] == 1000
    shown = plain(impasto("recipes").output)
    for name, recipe in told.items():
        assert name in shown
        assert recipe["meaning"] in shown
        assert all(f"{field}: " in shown for field in recipe["fields"])


@pytest.mark.parametrize("command", ["render", "submit"])
def test_the_specs_fields_are_options(command: str) -> None:
    shown = plain(impasto(command, "--help").output)
    for option in ("--style-weight", "--init-asset", "--label", "--deadline-seconds"):
        assert option in shown


def test_an_error_is_one_line_and_a_status() -> None:
    result = impasto("status", "17", "--server", "localhost:1")
    assert result.exit_code == cli.REFUSED
    assert result.stdout == ""
    assert result.stderr.startswith("impasto: server address 'localhost:1': accepted: http")
    assert result.stderr.count("\n") == 1


def test_debug_shows_where_an_error_came_from() -> None:
    result = impasto("--debug", "status", "17", "--server", "localhost:1")
    assert isinstance(result.exception, InvalidSetting)


def test_a_field_that_is_refused_is_a_usage_error_before_any_work(
    pictures: tuple[Path, Path],
) -> None:
    result = impasto("submit", *pictures, "--size", "3", "--server", "http://127.0.0.1:1")
    assert result.exit_code == 2
    accepted = f"at least {JobSpec.model_json_schema()['properties']['size']['minimum']}"
    assert result.stderr.startswith("impasto: size is 3, accepted: a whole number, " + accepted)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ("--mask", 0, "--mask", 1),
            "mask is '2 in number', accepted: at most 1, one for each style",
        ),
        (
            ("-o", "x.jpg", "--bits", "16"),
            "bits is 16, accepted with format: jpeg: 8; 16 needs png",
        ),
    ],
    ids=["masks", "bits"],
)
def test_options_that_do_not_go_together_are_a_usage_error(
    pictures: tuple[Path, Path], options: tuple[str | int, ...], told: str
) -> None:
    given = [pictures[option] if isinstance(option, int) else option for option in options]
    result = impasto("render", *pictures, *given, "--server", "http://127.0.0.1:1")
    assert result.exit_code == 2
    assert told in result.stderr


@pytest.mark.parametrize(
    ("content", "style", "named"),
    [
        ("missing.png", "painting.png", "missing.png"),
        ("photo.png", "missing.png", "missing.png"),
        ("photo.png", "missing.png=2", "missing.png"),
        ("photo.png", ".", "."),
    ],
)
def test_a_missing_picture_is_a_usage_error(
    pictures: tuple[Path, Path], content: str, style: str, named: str
) -> None:
    folder = pictures[0].parent
    result = impasto("render", folder / content, folder / style, "-o", "x.png", COLUMNS="400")
    assert result.exit_code == 2
    assert f"{folder / named}'" in plain(result.stderr)


def test_a_missing_mask_is_a_usage_error(pictures: tuple[Path, Path], tmp_path: Path) -> None:
    missing = tmp_path / "missing.png"
    result = impasto("submit", *pictures, "--mask", missing, COLUMNS="400")
    assert result.exit_code == 2
    assert f"{missing}'" in plain(result.stderr)


def test_an_output_that_cannot_be_written_is_reported_before_any_work(
    pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    output = tmp_path / "missing" / "x.png"
    result = impasto("render", *pictures, "-o", output, "--server", "http://127.0.0.1:1")
    assert result.exit_code == cli.REFUSED
    assert result.stderr == f"impasto: {output}: No such file or directory\n"


def test_a_name_that_is_no_pictures_is_a_usage_error(pictures: tuple[Path, Path]) -> None:
    result = impasto("render", *pictures, "-o", "x.bmp", "--server", "http://127.0.0.1:1")
    assert result.exit_code == cli.REFUSED
    assert result.stderr.startswith("impasto: x.bmp: accepted: a name with .png, .jpg")


def test_an_output_never_replaces_an_input(pictures: tuple[Path, Path]) -> None:
    photo, painting = pictures
    before = photo.read_bytes()
    again = photo.parent / "." / photo.name
    result = impasto("render", photo, painting, "-o", again, "--server", "http://127.0.0.1:1")
    assert result.exit_code == cli.REFUSED
    assert "accepted: another name than an input's" in result.stderr
    assert photo.read_bytes() == before


def test_standard_output_takes_the_picture_or_json_not_both(pictures: tuple[Path, Path]) -> None:
    result = impasto("render", *pictures, "-o", "-", "--json", "--server", "http://127.0.0.1:1")
    assert result.exit_code == cli.REFUSED
    assert "--output -: accepted with --json: a file" in result.stderr


@pytest.mark.parametrize("job", ["../../healthz", "..", "a/b", "", "17?x=1", "17#x", "a" * 65])
@pytest.mark.parametrize("command", ["status", "watch", "download", "cancel"])
def test_what_can_be_no_id_is_refused_before_anything_is_sent(command: str, job: str) -> None:
    result = impasto(command, job, "--server", "http://127.0.0.1:1")
    assert result.exit_code == cli.REFUSED
    assert result.stderr.startswith(f"impasto: job is {job!r}, accepted: a job's id")


@pytest.mark.parametrize(
    ("styles", "masks", "told"),
    [
        (["b.jpg"], [], "a.jpg in the style of b.jpg"),
        (["b.jpg"], ["m.png"], "a.jpg in the style of b.jpg (where m.png is white)"),
        (["b.jpg", "c.jpg"], [], "a.jpg in the style of b.jpg (50 %) and c.jpg (50 %)"),
        (
            ["b.jpg=2", "c.jpg", "d.jpg"],
            ["m.png"],
            "a.jpg in the style of b.jpg (50 %, where m.png is white), c.jpg (25 %) and"
            " d.jpg (25 %)",
        ),
    ],
)
def test_which_file_is_what_is_described(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    styles: list[str],
    masks: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "bcd":
        Path(f"{name}.jpg").touch()
    assert described(Path("a.jpg"), [style(text) for text in styles], [*map(Path, masks)]) == told


def test_too_many_styles_are_named_by_their_files(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(10)]
    for seed, path in enumerate(paths):
        path.write_bytes(paint(seed))
    result = impasto("render", *paths, "--server", "http://127.0.0.1:1")
    assert result.exit_code == cli.REFUSED
    assert "styles is '9 pictures: " in result.stderr
    assert paths[1].name in result.stderr
    assert digest(paint(1))[:12] not in result.stderr


def test_a_spec_may_come_from_a_file(pictures: tuple[Path, Path]) -> None:
    file = pictures[0].with_name("manifest.json")
    file.write_text(json.dumps({"spec": {"size": 3, "content": "0" * 64, "styles": []}}))
    result = impasto("render", *pictures, "--spec", file, "--server", "http://127.0.0.1:1")
    assert result.exit_code == cli.REFUSED
    assert result.stderr.startswith("impasto: size is 3, accepted: a whole number")
    result = impasto(
        "render", *pictures, "--spec", file, "--size", "4", "--server", "http://127.0.0.1:1"
    )
    assert result.stderr.startswith("impasto: size is 4")


@pytest.mark.parametrize("text", ["", "[]", "{", "17"])
def test_a_file_without_a_spec_is_a_usage_error(pictures: tuple[Path, Path], text: str) -> None:
    file = pictures[0].with_name("spec.json")
    file.write_text(text)
    result = impasto("render", *pictures, "--spec", file, "--server", "http://127.0.0.1:1")
    assert result.exit_code == cli.REFUSED
    assert "--spec" in plain(result.stderr)


@pytest.mark.parametrize(
    ("text", "path", "share"),
    [("a.png", "a.png", 1), ("a.png=2.5", "a.png", 2.5), ("a=b.png", "a=b.png", 1)],
)
def test_a_style_may_carry_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, path: str, share: float
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(path).touch()
    assert style(text) == (Path(path), share)


def test_a_label_without_a_value_is_a_usage_error() -> None:
    result = impasto("jobs", "--label", "shop", "--server", "http://127.0.0.1:1")
    assert result.exit_code == 2
    assert "'shop' is not NAME=VALUE" in plain(result.stderr)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            ModuleNotFoundError("No module named 'flask'", name="flask.app"),
            "this needs flask.app: pip install 'impasto[api]'",
        ),
        (
            ModuleNotFoundError("No module named 'torch'", name="torch"),
            "this needs torch: pip install 'impasto[worker]'",
        ),
        (PermissionError(13, "Permission denied", "out.png"), "out.png: Permission denied"),
        (
            InvalidImage("file: too large", violations=[Violation("file", "9 x 9 px", "less")]),
            "file: too large; file is '9 x 9 px', accepted: less",
        ),
        (InvalidImage(violations=[Violation("file", 9, "less")]), "file is 9, accepted: less"),
        (KeyError("a"), "KeyError: 'a' (impasto --debug COMMAND shows where)"),
        (ValueError("a\nb"), "ValueError: a (impasto --debug COMMAND shows where)"),
    ],
)
def test_every_error_has_a_line(error: Exception, line: str) -> None:
    assert in_one_line(error) == line


def test_the_spec_is_printed_for_machines_as_its_schema() -> None:
    assert json.loads(impasto("spec", "--json").stdout) == JobSpec.model_json_schema()


def test_settings_are_listed_with_their_values_and_without_passwords() -> None:
    url = "postgresql+psycopg://me:s3cret@host/name"
    told = impasto("settings", "--json", IMPASTO_DATABASE_URL=url, IMPASTO_PORT="1234").stdout
    settings = json.loads(told)
    assert settings["IMPASTO_PORT"] == 1234
    assert settings["IMPASTO_DATABASE_URL"] == "postgresql+psycopg://me:***@host/name"
    assert "s3cret" not in impasto("settings", IMPASTO_DATABASE_URL=url).stdout


def test_a_setting_that_is_refused_is_named_by_its_variable() -> None:
    result = impasto("jobs", IMPASTO_PORT="99999")
    assert result.exit_code == cli.REFUSED
    assert result.stderr.startswith("impasto: IMPASTO_PORT=99999: accepted: a whole number")


def test_migrate_makes_the_database_and_the_storage(tmp_path: Path) -> None:
    result = impasto("migrate", IMPASTO_HOME=str(tmp_path / "home"))
    assert result.exit_code == 0, result.output
    assert (tmp_path / "home" / "impasto.db").is_file()
    assert (tmp_path / "home" / "objects").is_dir()


def test_the_doctor_finds_nothing_where_nothing_is_broken(tmp_path: Path) -> None:
    home = {"IMPASTO_HOME": str(tmp_path)}
    impasto("migrate", **home)

    told = impasto("doctor", **home)

    assert told.exit_code == 0, told.output
    for name, meaning in INVARIANTS.items():
        assert re.search(rf"{name} +{meaning} +holds", told.stdout)


def test_the_doctor_lists_the_workers(tmp_path: Path) -> None:
    impasto("migrate", IMPASTO_HOME=str(tmp_path))
    with closing(open_database(f"sqlite:///{tmp_path / 'impasto.db'}")) as database:
        for number, state, code in ((1, "ready", None), (2, "not_ready", "storage_full")):
            told = identity(number, slots=2, versions={"torch": "2.9"})
            detail = code and "no room in /a/place"
            condition = workers.Condition(WorkerState(state), code, detail, 1, "cuda:0 (H200)")
            workers.register(database, told, condition, lease_seconds=60)

    told = plain(impasto("doctor", IMPASTO_HOME=str(tmp_path), COLUMNS="80").stdout)

    lines = [" ".join(line.split()) for line in re.sub(r"\d+ s ago", "0 s ago", told).splitlines()]
    start = lines.index("host:2 not ready, 1 of 2 slots busy, seen 0 s ago")
    assert lines[start:] == [
        "host:2 not ready, 1 of 2 slots busy, seen 0 s ago",
        "cuda:0 (H200), pid 2 on host, torch=2.9",
        "storage_full: no room in /a/place",
        "host:1 ready, 1 of 2 slots busy, seen 0 s ago",
        "cuda:0 (H200), pid 1 on host, torch=2.9",
    ]


def test_the_doctor_names_what_is_broken(tmp_path: Path) -> None:
    home = {"IMPASTO_HOME": str(tmp_path)}
    impasto("migrate", **home)
    key = "jobs/nobody/1-c/result.png"
    (tmp_path / "objects" / key).parent.mkdir(parents=True)
    (tmp_path / "objects" / key).touch()

    told, as_json = impasto("doctor", **home), impasto("doctor", "--json", **home)

    assert (told.exit_code, as_json.exit_code) == (1, 1)
    assert re.search(rf"I10 .* broken\n(.*\n)*I10: nobody knows {key}\n", plain(told.stdout))
    broken = {"invariant": "I10", "job_id": None, "detail": f"nobody knows {key}"}
    assert json.loads(as_json.stdout) == {"broken": [broken]}


def test_the_version_is_the_distributions() -> None:
    assert impasto("version").stdout == f"impasto {metadata.version('impasto')}\n"
