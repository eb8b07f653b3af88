"""docker-compose.yml as Compose understands it: closed by default, and told what it needs."""

import re
import runpy
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from impasto.shared.settings import PREFIX, Settings
from tests.arrange.deployment import (
    DOCKERFILES,
    EXAMPLE,
    FILLED,
    GUIDE,
    ROOT,
    SECRETS,
    compose,
    dockerfile_of,
    guide,
    module_of,
    services,
    stack,
)

COMPOSE_FILE = ROOT / "docker-compose.yml"

STORES = {"postgres", "valkey", "storage"}
LASTING = {"api", "reconciler", "worker", "worker-gpu"}
OURS = {"migrate"} | LASTING
OF_THE_EMBEDDED_STACK = {"home", "host", "port"}

each_service = pytest.mark.parametrize("name", sorted(STORES | OURS))
each_of_ours = pytest.mark.parametrize("name", sorted(OURS))


def environment(name: str) -> dict[str, str]:
    """What a service is told when nobody has set more than the secrets."""
    told = services()[name]["environment"]
    return {variable: value for variable, value in told.items() if value is not None}


def seconds(duration: str) -> int:
    minutes, rest = re.fullmatch(r"(?:(\d+)m)?(\d+)s", duration).groups()
    return int(minutes or 0) * 60 + int(rest)


def test_compose_accepts_the_file_without_a_word() -> None:
    answer = compose("--profile", "*", "config", "--quiet", variables=FILLED)

    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


def test_these_are_the_services() -> None:
    assert set(services()) == STORES | OURS


# Secrets.


def test_the_example_leaves_empty_what_is_always_asked_for() -> None:
    uses = re.findall(r"\$\{?(\w+)([^}]*)", COMPOSE_FILE.read_text())

    asked = {name for name, otherwise in uses if otherwise == ":?see .env.example"}

    assert asked == set(SECRETS)
    others = {"IMPASTO_HOST", "IMPASTO_PORT", "PIP_CONFIG_FILE"}
    assert {name for name, _ in uses} - asked == others
    assert not {name for name, otherwise in uses if not otherwise.startswith(":?")} & asked


@pytest.mark.parametrize("secret", SECRETS)
def test_without_a_secret_nothing_starts_and_it_is_named(secret: str) -> None:
    others = {name: value for name, value in FILLED.items() if name != secret}

    answer = compose("config", "--quiet", variables=others)

    assert answer.returncode != 0
    assert f"required variable {secret} is missing a value: see .env.example" in answer.stderr
    assert not any(f"variable {other} " in answer.stderr for other in others)


def test_the_line_in_the_guide_makes_all_secrets_and_no_two_alike(tmp_path: Path) -> None:
    (tmp_path / EXAMPLE.name).write_text(EXAMPLE.read_text())
    subprocess.run(["sh", "-c", guide("sh", "openssl")], cwd=tmp_path, check=True, timeout=60)
    made = tmp_path / ".env"

    values = re.findall(r"^\w+=(\w{64})$", made.read_text(), re.MULTILINE)

    assert compose("config", "--quiet", variables={}, env_file=made).returncode == 0
    assert len(set(values)) == len(SECRETS)
    assert made.stat().st_mode & 0o077 == 0


# Every service.


@each_service
def test_a_service_has_no_rights_and_can_gain_none(name: str) -> None:
    service = services()[name]
    ours = dockerfile_of(name)
    user = ours.last("USER").text if ours else service["user"]

    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "devices"} & set(service)


@each_service
def test_a_service_writes_into_volumes_and_memory_only(name: str) -> None:
    service = services()[name]

    assert {mount["type"] for mount in service.get("volumes", [])} <= {"volume"}
    assert service["tmpfs"][0] == "/tmp"  # noqa: S108


@each_service
def test_logs_are_bounded(name: str) -> None:
    logging = services()[name]["logging"]

    assert logging == {"driver": "local", "options": {"max-size": "10m", "max-file": "5"}}


@pytest.mark.parametrize("name", sorted(STORES | LASTING))
def test_a_service_that_lasts_comes_back_and_tells_its_health(name: str) -> None:
    service = services()[name]
    ours = dockerfile_of(name)

    assert service["restart"] == "unless-stopped"
    assert "healthcheck" in service or ours.last("HEALTHCHECK")
    assert "disable" not in service.get("healthcheck", {})


@pytest.mark.parametrize("name", sorted(STORES))
def test_an_image_of_others_is_pinned_to_a_version(name: str) -> None:
    assert re.fullmatch(r"[a-z/]+:\d+\.\d+(\.\d+)?(-trixie)?", services()[name]["image"])


@each_of_ours
def test_our_images_have_no_tag_that_two_builds_could_fight_for(name: str) -> None:
    assert "image" not in services()[name]


# Who meets whom.


def test_only_the_api_is_published_and_to_this_machine_alone() -> None:
    published = [name for name, service in services().items() if "ports" in service]
    (port,) = services()["api"]["ports"]

    assert published == ["api"]
    assert port["host_ip"] == Settings.model_fields["host"].default
    assert port["published"] == str(Settings.model_fields["port"].default)
    assert f"0.0.0.0:{port['target']}" in dockerfile_of("api").last("CMD").arguments


@each_service
def test_the_stores_are_on_a_network_without_a_way_out(name: str) -> None:
    networks = set(services()[name]["networks"])

    assert stack()["networks"]["inside"]["internal"] is True
    assert networks == ({"inside"} if name in STORES else {"inside", "outside"})


@pytest.mark.parametrize("name", sorted(LASTING))
def test_who_needs_the_schema_waits_for_it(name: str) -> None:
    awaited = services()[name]["depends_on"]

    assert awaited["migrate"]["condition"] == "service_completed_successfully"
    assert awaited["valkey"]["condition"] == "service_healthy"


def test_the_migration_ends_and_waits_for_what_it_migrates() -> None:
    migrate = services()["migrate"]

    assert migrate["restart"].startswith("on-failure")
    assert migrate["healthcheck"] == {"disable": True}
    assert {each["condition"] for each in migrate["depends_on"].values()} == {"service_healthy"}
    assert set(migrate["depends_on"]) == {"postgres", "storage"}


# Workers.


@pytest.mark.parametrize("name", ["worker", "worker-gpu"])
def test_workers_can_be_many(name: str) -> None:
    assert not {"container_name", "ports", "hostname"} & set(services()[name])


def test_a_gpu_worker_must_be_asked_for_and_reserves_one_gpu() -> None:
    started = compose("config", "--services", variables=FILLED).stdout.split()
    reserved = services()["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]

    assert "worker" in started
    assert "worker-gpu" not in started
    (gpu,) = reserved
    assert (gpu["driver"], gpu["count"]) == ("nvidia", 1)
    assert "gpu" in gpu["capabilities"]
    assert environment("worker-gpu")["IMPASTO_DEVICE"] == "cuda"
    assert environment("worker")["IMPASTO_DEVICE"] == "cpu"


def test_the_guide_gives_a_second_gpu_to_another_worker(tmp_path: Path) -> None:
    override = tmp_path / "docker-compose.override.yml"
    override.write_text(guide("yaml", "worker-gpu-1").replace("file: ", f"file: {ROOT}/"))
    files = ["--file", str(COMPOSE_FILE), "--file", str(override)]

    answer = compose(*files, "--profile", "gpu", "config", variables=FILLED)

    assert answer.stderr == ""
    first, second = re.findall(r"(?:count: |device_ids:\n +- )(.+)", answer.stdout)
    assert (first, second) == ("1", '"1"')


@pytest.mark.parametrize("name", ["worker", "worker-gpu"])
def test_a_worker_may_hand_back_before_it_is_killed(name: str) -> None:
    assert seconds(services()[name]["stop_grace_period"]) > Settings().drain_seconds


def test_the_api_may_finish_its_requests_before_it_is_killed() -> None:
    served = runpy.run_path(str(ROOT / "deploy" / "gunicorn.conf.py"))

    assert seconds(services()["api"]["stop_grace_period"]) > served["graceful_timeout"]


# What our processes are told.


@each_of_ours
def test_a_process_runs_a_module_of_its_image(name: str) -> None:
    dockerfile = dockerfile_of(name)
    module = module_of(services()[name].get("command") or dockerfile.last("CMD").arguments)

    assert find_spec(module) is not None
    assert module.partition(".")[0] in dockerfile.sources()


@each_of_ours
def test_the_settings_accept_what_a_process_is_told(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in environment(name).items():
        monkeypatch.setenv(variable, value)

    told = Settings()

    assert told.database_url == "postgresql+psycopg://impasto:0123abcd@postgres/impasto"
    assert told.broker_url == "redis://:0123abcd@valkey/0"
    assert told.storage_url == "s3://impasto"


def test_every_setting_of_the_cluster_can_be_set_in_env() -> None:
    told = {variable for name in OURS for variable in services()[name]["environment"]}
    told |= {each for path in DOCKERFILES for each in re.findall(r"\w+(?==)", path.read_text())}

    missing = {name for name in Settings.model_fields if PREFIX + name.upper() not in told}

    assert missing == OF_THE_EMBEDDED_STACK


def test_what_env_says_reaches_every_process(tmp_path: Path) -> None:
    env = tmp_path / ".env"
    env.write_text("IMPASTO_SLOTS=3\n")

    answer = compose("--profile", "gpu", "config", variables=FILLED, env_file=env)

    assert answer.stdout.count('IMPASTO_SLOTS: "3"') == len(OURS)


@pytest.mark.parametrize(
    "path", [COMPOSE_FILE, EXAMPLE, GUIDE, *DOCKERFILES], ids=lambda path: path.name
)
def test_every_setting_that_is_named_exists(path: Path) -> None:
    named = re.findall(rf"\b{PREFIX}([A-Z_]+[A-Z])\b", path.read_text())

    assert {name.lower() for name in named} <= set(Settings.model_fields)
