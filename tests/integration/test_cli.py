"""The command line against a service that `impasto up` started."""

import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from impasto.services import cli
from impasto.services.client import Client
from impasto.shared.object_keys import digest
from tests.arrange.paths import BIN
from tests.arrange.pictures import paint
from tests.arrange.processes import EmbeddedStack, outside
from tests.servers.server import free_port

SMALL = ("--size", "64", "--iterations", "3", "--snapshot-every", "1")
LONG = ("--size", "64", "--iterations", "10000", "--snapshot-every", "0")

Impasto = Callable[..., Result]


class Up(EmbeddedStack):
    """`impasto up`, told by options what the environment tells elsewhere."""

    def command(self) -> list[str]:
        options = ["--port", str(self.port), "--home", str(self.folder / "home")]
        return ["env", str(BIN / "impasto"), "up", "--threads", "1", *options]


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--rounds")


@pytest.fixture(scope="module")
def server() -> Iterator[Up]:
    with Up({}) as server:
        yield server


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pictures")
    paths = folder / "photo.png", folder / "painting.png"
    for seed, path in enumerate(paths):
        path.write_bytes(paint(seed, size=(96, 72)))
    return paths


@pytest.fixture
def impasto(server: Up) -> Impasto:
    """`impasto(*args)` runs a command against the server."""

    def run(*args: str | Path) -> Result:
        environment = {"IMPASTO_API_URL": server.url, "COLUMNS": "200"}
        return CliRunner().invoke(cli.app, [*map(str, args)], env=environment)

    return run


def process(
    *args: str | Path,
    stdout: int | IO[bytes] = subprocess.PIPE,
    through: Sequence[str] = (),
    **environment: str,
) -> "subprocess.Popen[str]":
    """A command in a process of its own, as a person runs it."""
    return subprocess.Popen(
        [*through, BIN / "impasto", *args],
        env={**outside(), "IMPASTO_THREADS": "1", **environment},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_line(running: "subprocess.Popen[str]", start: str) -> None:
    told = []
    for line in running.stderr:
        told.append(line)
        if line.startswith(start):
            return
    raise AssertionError("".join(told))


def test_render_keeps_the_picture_and_its_report(
    impasto: Impasto, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    output, report = tmp_path / "report" / "out.webp", tmp_path / "report"
    result = impasto("render", *pictures, *SMALL, "-o", output, "--report", report)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert result.stderr.startswith(f"{pictures[0]} in the style of {pictures[1]}\n")
    *_, succeeded, last = result.stderr.splitlines()
    assert succeeded.startswith("succeeded  3/3")
    assert last.startswith(f"{output}: 64 × 48 px, rendered in")
    with Image.open(output) as picture:
        assert (picture.format, picture.size) == ("WEBP", (64, 48))
    kept = {"out.webp", "snapshots.png", "losses.png", "losses.csv", "manifest.json"}
    assert {path.name for path in report.iterdir()} == kept
    assert len((report / "losses.csv").read_text().splitlines()) == 1 + 4
    assert json.loads((report / "manifest.json").read_text())["iterations"] == 3
    with Image.open(report / "snapshots.png") as strip:
        assert strip.width > 3 * 64


def test_a_job_is_submitted_watched_listed_and_downloaded(
    impasto: Impasto, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    submitted = impasto("submit", *pictures, *SMALL, "--label", "shop=4")
    assert submitted.exit_code == 0, submitted.output
    job = submitted.stdout.strip()
    watched = impasto("watch", job)
    assert watched.exit_code == 0, watched.output
    assert "succeeded" in watched.stderr
    assert "succeeded" in impasto("status", job).stdout
    assert job in impasto("jobs", "--label", "shop=4", "--status", "succeeded").stdout
    assert job not in impasto("jobs", "--label", "shop=5").output
    output = tmp_path / "out.jpg"
    downloaded = impasto("download", job, "-o", output)
    assert downloaded.exit_code == 0, downloaded.output
    with Image.open(output) as picture:
        assert picture.format == "JPEG"


def test_a_picture_without_a_name_gets_the_jobs_and_its_formats(
    impasto: Impasto,
    pictures: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert impasto("render", *pictures, *SMALL, "--format", "jpeg").exit_code == 0
    [kept] = tmp_path.iterdir()
    job = kept.stem.removeprefix("impasto-")
    assert kept.name == f"impasto-{job}.jpg"
    kept.unlink()
    assert impasto("download", job).exit_code == 0
    assert kept.exists()


def test_machines_are_answered_in_json(impasto: Impasto, pictures: tuple[Path, Path]) -> None:
    job = json.loads(impasto("submit", *pictures, *SMALL, "--json").stdout)
    changes = [
        json.loads(line) for line in impasto("watch", job["id"], "--json").stdout.split("\n")[:-1]
    ]
    assert changes[-1]["status"] == "succeeded"
    assert [change["version"] for change in changes] == sorted({c["version"] for c in changes})
    assert json.loads(impasto("status", job["id"], "--json").stdout) == changes[-1]
    [newest] = json.loads(impasto("jobs", "--json", "--limit", "1").stdout)
    assert newest["id"] == job["id"]
    assert newest.items() <= changes[-1].items()


def test_a_render_prints_its_status_and_where_the_picture_is(
    impasto: Impasto, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    output = tmp_path / "out.png"
    document = json.loads(impasto("render", *pictures, *SMALL, "-o", output, "--json").stdout)
    assert (document["status"], document["output"]) == ("succeeded", str(output))
    assert digest(output.read_bytes()) == document["result"]["sha256"]
    again = impasto("download", document["id"], "-o", tmp_path / "again.png", "--json")
    assert json.loads(again.stdout)["output"] == str(tmp_path / "again.png")
    assert json.loads(impasto("cancel", document["id"], "--json").stdout)["status"] == "succeeded"


def test_a_picture_can_go_to_the_standard_output(
    server: Up, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    with (
        (tmp_path / "out.webp").open("wb") as out,
        process(
            *("render", *pictures, *SMALL, "--format", "webp", "-o", "-"),
            stdout=out,
            IMPASTO_API_URL=server.url,
        ) as running,
    ):
        _, stderr = running.communicate(timeout=60)
    assert running.returncode == 0, stderr
    with Image.open(tmp_path / "out.webp") as picture:
        assert (picture.format, picture.size) == ("WEBP", (64, 48))


def test_a_manifest_renders_other_pictures_in_the_same_way(
    impasto: Impasto, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    options = ("--style-weight", "7", "--tv-weight", "3", "--report", tmp_path)
    first = impasto("render", *pictures, *SMALL, *options, "-o", tmp_path / "out.png", "--json")
    spec = json.loads(first.stdout)["spec"]

    swapped = (pictures[1], pictures[0], "--spec", tmp_path / "manifest.json", "--seed", "5")
    again = json.loads(impasto("submit", *swapped, "--json").stdout)["spec"]

    assert (again["content"], again["seed"]) == (digest(pictures[1].read_bytes()), 5)
    own = {"content", "styles", "seed"}
    assert {n: v for n, v in again.items() if n not in own} == {
        n: v for n, v in spec.items() if n not in own
    }


def test_a_picture_that_cannot_be_written_can_be_fetched(
    impasto: Impasto, server: Up, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    output = tmp_path / "out.png"
    with process(
        *("render", *pictures, *SMALL, "-o", output),
        through=("sh", "-c", 'ulimit -f 0 && exec "$0" "$@"'),  # a write fails, as on a full disk
        IMPASTO_API_URL=server.url,
    ) as running:
        _, stderr = running.communicate(timeout=60)
    assert running.returncode == 1
    told = re.fullmatch(
        rf"impasto: {output}: .+; the picture is kept: impasto download (\w+) -o FILE",
        stderr.splitlines()[-1],
    )
    assert told, stderr
    assert list(tmp_path.iterdir()) == []
    assert impasto("download", told[1], "-o", output).exit_code == 0
    assert output.exists()


def test_a_refusal_of_the_server_names_the_file(
    impasto: Impasto, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    narrow = tmp_path / "narrow.png"
    narrow.write_bytes(paint(3, size=(400, 10)))
    result = impasto("submit", pictures[0], narrow, *SMALL)
    assert result.exit_code == cli.REFUSED
    assert f"styles.0.asset ({narrow}) is '400 x 10 px" in result.stderr


def test_shares_and_options_reach_the_spec(impasto: Impasto, pictures: tuple[Path, Path]) -> None:
    content, style = pictures
    options = ["--optimizer", "adam", "--style-layers", "block1=1,block3=2", "--seed", "7"]
    options += ["--mask", str(style), "--normalize-gradients", "--bits", "16"]
    answer = impasto("submit", content, f"{style}=3", content, *SMALL, *options, "--json")
    spec = json.loads(answer.stdout)["spec"]
    assert [told["weight"] for told in spec["styles"]] == [0.75, 0.25]
    assert [told["mask"] for told in spec["styles"]] == [digest(style.read_bytes()), None]
    assert (spec["normalize_gradients"], spec["bits"]) == (True, 16)
    assert spec["style_layers"] == {"relu1_1": 1.0, "relu3_1": 2.0}
    assert (spec["optimizer"], spec["seed"], spec["iterations"]) == ("adam", 7, 3)


def test_a_recipe_reaches_the_spec_and_options_go_before_a_file(
    impasto: Impasto, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    answer = impasto("submit", *pictures, *SMALL, "--recipe", "report", "--json")
    spec = json.loads(answer.stdout)["spec"]
    assert (spec["recipe"], spec["style_weight"], spec["init"]) == ("report", 1000, "noise")
    assert (spec["strength"], spec["iterations"]) == (None, 3)

    written = tmp_path / "spec.json"
    written.write_text(json.dumps(spec))
    options = ["--spec", written, "--strength", "0.7", "--json"]
    again = json.loads(impasto("submit", *pictures, *options).stdout)["spec"]
    assert (again["strength"], again["style_weight"], again["init"]) == (0.7, None, "noise")


def test_a_cancelled_job_ends_a_watch_with_status_1(
    impasto: Impasto, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    job = impasto("submit", *pictures, *LONG).stdout.strip()
    assert impasto("cancel", job).exit_code == 0
    watched = impasto("watch", job)
    assert watched.exit_code == 1
    assert watched.stderr.endswith(f"impasto: job {job} was cancelled\n")
    assert impasto("download", job, "-o", tmp_path / "out.png").exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_what_the_server_refuses_is_one_line(
    impasto: Impasto, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("no picture")
    result = impasto("submit", notes, pictures[1])
    assert result.exit_code == cli.REFUSED
    *_, told = result.stderr.splitlines()
    assert told.startswith(f"impasto: {notes}: this is no picture of a known format;")
    assert "image/png" in told
    assert impasto("status", "0" * 20).stderr.startswith("impasto: there is no job")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cancels_the_job_that_is_rendered(
    server: Up, pictures: tuple[Path, Path], tmp_path: Path, number: signal.Signals
) -> None:
    output = tmp_path / "out.png"
    with process("render", *pictures, *LONG, "-o", output, IMPASTO_API_URL=server.url) as running:
        wait_for_line(running, "rendering")
        running.send_signal(number)
        told = running.stderr.read().splitlines()
    assert running.returncode == 128 + number
    assert told[-1].startswith("job ")
    assert told[-1].endswith(" is cancelled")
    with Client(server.url) as client:
        *_, status = client.job(told[-1].split()[1]).watch()
    assert status.status == "cancelled"
    assert not output.exists()


def test_ctrl_c_only_stops_watching(server: Up, pictures: tuple[Path, Path]) -> None:
    with Client(server.url) as client:
        job = client.render(*pictures, size=64, iterations=10_000)
        with process("watch", job.id, IMPASTO_API_URL=server.url) as running:
            running.stderr.readline()
            running.send_signal(signal.SIGINT)
            told = running.stderr.read()
        assert running.returncode == cli.INTERRUPTED
        assert "Traceback" not in told
        assert not job.status().is_over
        job.cancel()


def test_without_a_server_render_starts_its_own(
    pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    output, home = tmp_path / "out.png", tmp_path / "home"
    environment = {"IMPASTO_PORT": str(free_port()), "IMPASTO_HOME": str(home)}
    with process("render", *pictures, *SMALL, "-o", output, **environment) as running:
        stdout, stderr = running.communicate(timeout=120)
    assert running.returncode == 0, stderr
    _, started, *rest = stderr.splitlines()
    assert started == f"no server is running: starting one for this picture, in {home}"
    assert rest[-1].startswith(f"{output}: 64 × 48 px")
    assert stdout == ""


def test_two_renders_at_the_same_moment_need_no_server(
    pictures: tuple[Path, Path], tmp_path: Path, rounds: int
) -> None:
    """One of them starts a service, and the other uses that, and outlives it."""
    for number in range(rounds):
        folder = tmp_path / str(number)
        folder.mkdir()
        environment = {"IMPASTO_PORT": str(free_port()), "IMPASTO_HOME": str(folder / "home")}
        outputs = [folder / f"{name}.png" for name in "ab"]
        running = [
            process("render", *pictures, *SMALL, "-o", output, **environment) for output in outputs
        ]
        told = [command.communicate(timeout=240)[1] for command in running]
        assert [command.returncode for command in running] == [0, 0], "\n".join(told)
        assert [output.is_file() for output in outputs] == [True, True]


def test_a_render_goes_on_when_the_service_of_another_command_is_killed(
    pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    home, output = tmp_path / "home", tmp_path / "out.png"
    environment = {"IMPASTO_PORT": str(free_port()), "IMPASTO_HOME": str(home)}
    with process("render", *pictures, *LONG, "-o", tmp_path / "a.png", **environment) as first:
        wait_for_line(first, "rendering")
        first_of_two = ("--priority", "9")  # of the killed command's job, which is taken up, too
        with process(
            "render", *pictures, *SMALL, *first_of_two, "-o", output, **environment
        ) as second:
            wait_for_line(second, "queued")
            first.kill()
            _, told = second.communicate(timeout=240)
    assert second.returncode == 0, told
    assert "no server is running: starting one" in told
    assert output.is_file()


def test_what_an_own_service_kept_can_be_read_without_a_server(
    pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    home, output = tmp_path / "home", tmp_path / "out.png"
    environment = {"IMPASTO_PORT": str(free_port()), "IMPASTO_HOME": str(home)}
    with process("jobs", **environment) as nothing:
        _, told = nothing.communicate(timeout=60)
    assert nothing.returncode == 1
    assert "no server answers" in told
    assert not home.exists()
    with process("render", *pictures, *SMALL, "-o", output, "--json", **environment) as rendered:
        job = json.loads(rendered.communicate(timeout=240)[0])["id"]
    with process("download", job, "-o", tmp_path / "again.png", **environment) as downloaded:
        _, told = downloaded.communicate(timeout=60)
    assert downloaded.returncode == 0, told
    assert (tmp_path / "again.png").read_bytes() == output.read_bytes()


def test_the_server_on_this_machine_is_found_by_its_port(
    server: Up, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    output = tmp_path / "out.png"
    environment = {"IMPASTO_PORT": str(server.port), "IMPASTO_HOME": str(tmp_path / "home")}
    with process("render", *pictures, *SMALL, "-o", output, **environment) as running:
        _, stderr = running.communicate(timeout=60)
    assert running.returncode == 0, stderr
    assert "no server is running" not in stderr
    assert not (tmp_path / "home").exists()


def test_up_refuses_a_setting_by_its_name() -> None:
    with process("up", "--port", "99999") as running:
        _, stderr = running.communicate(timeout=60)
    assert running.returncode == cli.REFUSED
    assert stderr.startswith("impasto: IMPASTO_PORT=99999: accepted: a whole number")
