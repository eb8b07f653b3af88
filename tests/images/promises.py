"""What docs/deploy.md and docker-compose.yml promise of the stack, each tried on a real one.

In this order: each takes the stack as the one before leaves it. A promise answers with what was
seen, and raises AssertionError where it does not hold.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx2 as httpx
from PIL import Image

from impasto.services.client import Client, Job
from impasto.shared.states import State
from tests.arrange.deployment import SECRETS, guide
from tests.arrange.paths import SAMPLES
from tests.images.engine import Stack

STORES = ("postgres", "valkey", "storage")
OURS = ("api", "reconciler", "worker")
SETTINGS = {  # as an operator would, in .env; the lease is short so that a kill is soon noticed
    "IMPASTO_THREADS": "1",
    "IMPASTO_LEASE_SECONDS": "15",
    "IMPASTO_CHECKPOINT_SECONDS": "2",
}
WAIT_SECONDS = 240.0  # for anything; two shared cores import torch in half a minute at worst
MIB = 2**20


@dataclass(frozen=True)
class Promise:
    chapter: str
    sentence: str
    check: Callable[[Stack], str]


PROMISES: list[Promise] = []


def promise(
    chapter: str, sentence: str
) -> Callable[[Callable[[Stack], str]], Callable[[Stack], str]]:
    def registered(check: Callable[[Stack], str]) -> Callable[[Stack], str]:
        PROMISES.append(Promise(chapter, sentence, check))
        return check

    return registered


# Start.


@promise("start", "as long as a secret is missing, Compose names it and starts nothing")
def secrets_are_asked_for(stack: Stack) -> str:
    for missing in SECRETS:
        others = [f"{name}=0123abcd" for name in SECRETS if name != missing]
        (stack.folder / ".env").write_text("\n".join(others) + "\n")
        told = stack.sh("docker compose up --detach", fails=True)
        assert f"required variable {missing} is missing a value: see .env.example" in told, told
    assert not stack.containers()
    (stack.folder / ".env").unlink()
    return f"{', '.join(SECRETS)}: each named, no container made"


@promise("start", "one line makes an .env with fresh secrets")
def the_guide_makes_secrets(stack: Stack) -> str:
    stack.sh(guide("sh", "openssl"))
    env = stack.folder / ".env"
    values = re.findall(r"^\w+=(\w{64})$", env.read_text(), re.MULTILINE)
    assert len(set(values)) == len(SECRETS)
    mode = env.stat().st_mode & 0o777
    assert mode == 0o600, oct(mode)
    more = {"IMPASTO_PORT": str(stack.port), **SETTINGS}
    with env.open("a") as file:
        file.writelines(f"{name}={value}\n" for name, value in more.items())
    return f"{len(values)} secrets of 64 hex digits, mode {mode:o}"


@promise("start", "the images are built and the stack starts, with two workers")
def it_starts(stack: Stack) -> str:
    began = time.monotonic()
    stack.sh("docker compose build", seconds=3600)
    built = time.monotonic()
    up, _, _ = guide("sh", "compose up --detach --build").partition("\n")
    stack.sh(up, seconds=3600)
    wait_for("every service to be healthy", lambda: all_healthy(stack))
    workers = len(stack.containers("worker"))
    assert workers == 2
    healthy = time.monotonic()
    return f"built in {built - began:.0f} s; `{up}`: healthy after {healthy - built:.0f} s"


@promise("start", "the stores are healthy before the migrations, which end before all others start")
def the_order_of_the_start(stack: Stack) -> str:
    migrate = stack.container("migrate")["State"]
    assert migrate["ExitCode"] == 0
    for store in ("postgres", "storage"):
        probes = stack.container(store)["State"]["Health"]["Log"]
        assert all(probe["ExitCode"] == 0 for probe in probes[-1:])
    started = {c["Name"]: moment(c["State"]["StartedAt"]) for c in stack.containers()}
    stores = max(at for name, at in started.items() if any(store in name for store in STORES))
    ours = min(at for name, at in started.items() if any(each in name for each in OURS))
    assert stores <= moment(migrate["StartedAt"]) < moment(migrate["FinishedAt"]) <= ours
    seconds = (moment(migrate["FinishedAt"]) - moment(migrate["StartedAt"])).total_seconds()
    return f"stores, migrate ({seconds:.1f} s, status 0), then {', '.join(OURS)}"


@promise("start", "the API answers on the published port, where the command line looks for it")
def it_renders(stack: Stack) -> str:
    script = (
        guide("sh", "compose up --detach --build")
        .split("\n", 1)[1]
        .replace(":7777", f":{stack.port}")
    )
    for name, sample in (("photo.jpg", "skyline.jpg"), ("painting.jpg", "brushstrokes.jpg")):
        stack.sh(f"cp samples/{sample} {name}")
    said = stack.sh(script.replace("out.png", "out.png --size 128 --iterations 20"))
    assert '"ready"' in said, said
    with Image.open(stack.folder / "out.png") as picture:
        assert max(picture.size) == 128
        return f"/readyz is ready; out.png has {picture.width} x {picture.height} px"


@promise("start", "the settings in .env reach every process")
def settings_arrive(stack: Stack) -> str:
    for container in running(stack, *OURS):
        environment = dict(pair.split("=", 1) for pair in container["Config"]["Env"] if "=" in pair)
        assert environment.items() >= SETTINGS.items(), container["Name"]
    return ", ".join(f"{name}={value}" for name, value in SETTINGS.items())


# Images.


@promise("images", "what each image weighs, and for what")
def sizes(stack: Stack) -> str:
    stack.sh("docker compose --profile gpu build worker-gpu", seconds=3600)
    bytes_of = {}
    for service, image in {
        **{service: stack.image(service) for service in ("api", "worker")},
        "worker-gpu": f"{stack.project}-worker-gpu",
    }.items():
        bytes_of[service] = int(stack.sh(f"docker image inspect --format '{{{{.Size}}}}' {image}"))
    assert bytes_of["worker"] < bytes_of["worker-gpu"] / 2
    return ", ".join(f"{name} {size / 1e9:.2f} GB" for name, size in bytes_of.items())


@promise("images", "there is no torch in the API's image; both workers' images load theirs")
def torch_is_where_it_renders(stack: Stack) -> str:
    version = "import torch; print(torch.__version__, torch.cuda.is_available())"
    api = stack.sh(f"docker run --rm {stack.image('api')} python -c '{version}'", fails=True)
    assert "No module named 'torch'" in api, api
    workers = (stack.image("worker"), f"{stack.project}-worker-gpu")
    versions = [
        stack.sh(f"docker run --rm {image} python -c '{version}'").strip() for image in workers
    ]
    return f"worker: {versions[0]}; worker-gpu: {versions[1]} (torch, CUDA here)"


@promise("images", "worker-gpu does not start without a GPU")
def no_gpu_no_start(stack: Stack) -> str:
    try:
        told = stack.sh("docker compose --profile gpu up --detach --no-deps worker-gpu", fails=True)
    finally:
        stack.sh("docker compose --profile gpu rm --stop --force worker-gpu")
    assert "could not select device driver" in told, told
    return told.strip().splitlines()[-1]


# Rights.


@promise("rights", "nobody is root, nobody has a capability or can gain one")
def no_rights(stack: Stack) -> str:
    users = {}
    for container in running(stack):
        status = stack.inside(container, "cat /proc/1/status /proc/self/status")
        users[container["Config"]["Labels"]["com.docker.compose.service"]] = re.findall(
            r"^Uid:\s+(\d+)", status, re.MULTILINE
        )
        assert "0" not in re.findall(r"^[UG]id:\s+(\d+)", status, re.MULTILINE), container["Name"]
        assert set(re.findall(r"^Cap\w+:\s+(\w+)$", status, re.MULTILINE)) == {"0" * 16}
        assert set(re.findall(r"^NoNewPrivs:\s+(\d)$", status, re.MULTILINE)) == {"1"}
    told = ", ".join(f"{service} {uids[0]}" for service, uids in sorted(users.items()))
    return f"uid: {told}; CapBnd 0, NoNewPrivs 1 in all"


@promise("rights", "root filesystems are read-only; /tmp and the volumes are not")
def read_only(stack: Stack) -> str:
    places = {"postgres": "/var/lib/postgresql", "valkey": "/data", "storage": "/data"}
    places |= {"worker": "/home/impasto"}
    for container in running(stack):
        service = container["Config"]["Labels"]["com.docker.compose.service"]
        stack.inside(container, "! touch /here /etc/here /usr/here 2>/dev/null")
        stack.inside(container, "touch /tmp/here && rm /tmp/here")
        if place := places.get(service):
            stack.inside(container, f"touch {place}/here && rm {place}/here")
        roots = stack.inside(container, "grep ' / ' /proc/mounts")
        assert re.search(r"\sro[,\s]", roots), roots
    count = len(running(stack))
    return f"{count} containers: / is mounted ro, /tmp and {len(places)} volumes take files"


@promise("rights", "memory is limited, logs are bounded")
def limits(stack: Stack) -> str:
    memory = {}
    for container in running(stack):
        host = container["HostConfig"]
        assert host["LogConfig"] == {
            "Type": "local",
            "Config": {"max-size": "10m", "max-file": "5"},
        }
        service = container["Config"]["Labels"]["com.docker.compose.service"]
        memory[service] = (host["Memory"] or host["MemoryReservation"]) // MIB
    assert all(memory.values()), memory
    told = ", ".join(f"{service} {mib}" for service, mib in sorted(memory.items()))
    return f"MiB: {told}; logs: local, 5 x 10 MB"


# Networks.


@promise("networks", "only the API is published, and to this machine alone")
def published(stack: Stack) -> str:
    bindings = [
        (container["Name"], port, binding["HostIp"], binding["HostPort"])
        for container in running(stack)
        for port, told in container["NetworkSettings"]["Ports"].items()
        for binding in told or []
    ]
    assert [binding[1:] for binding in bindings] == [("8000/tcp", "127.0.0.1", str(stack.port))]
    return "{}: {} at {}:{}".format(*bindings[0])


@promise("networks", "the stores are reached from `inside` and not from `outside`")
def stores_are_inside(stack: Stack) -> str:
    ports = {"postgres": 5432, "valkey": 6379, "storage": 8333}
    seen = []
    for service, port in ports.items():
        networks = stack.container(service)["NetworkSettings"]["Networks"]
        ((network, told),) = networks.items()
        assert network == f"{stack.project}_inside"
        for place, reached in (("inside", True), ("outside", False)):
            for host in (service, told["IPAddress"]):
                answer = connects(stack, place, host, port)
                assert (answer == "connected") is reached, (service, place, host, answer)
                seen.append(f"{service} from {place}: {answer}")
    return "; ".join(dict.fromkeys(seen))


@promise("networks", "`inside` has no way out")
def no_way_out(stack: Stack) -> str:
    gateway = json.loads(stack.sh(f"docker network inspect {stack.project}_outside"))
    assert gateway[0]["Internal"] is False
    inside = json.loads(stack.sh(f"docker network inspect {stack.project}_inside"))
    assert inside[0]["Internal"] is True
    for store in STORES:
        routes = stack.inside(stack.container(store), "cat /proc/net/route")
        assert not re.search(r"^\w+\s+00000000\s", routes, re.MULTILINE), routes
    routes = stack.inside(running(stack, "api")[0], "cat /proc/net/route")
    assert re.search(r"^\w+\s+00000000\s", routes, re.MULTILINE), routes
    return "no default route in postgres, valkey, storage; one in api"


@promise("networks", "each store asks for its secret")
def stores_ask(stack: Stack) -> str:
    valkey = stack.inside(stack.container("valkey"), "valkey-cli ping")
    assert "NOAUTH" in valkey, valkey
    url = "postgresql://impasto:wrong@postgres/impasto"
    script = f"import psycopg; psycopg.connect({url!r})"
    postgres = in_api(stack, script, fails=True)
    assert "password authentication failed" in postgres, postgres
    script = (
        "import boto3, os; boto3.client('s3', aws_access_key_id=os.environ['AWS_ACCESS_KEY_ID'],"
        " aws_secret_access_key='wrong').list_buckets()"
    )
    storage = in_api(stack, script, fails=True)
    assert "SignatureDoesNotMatch" in storage, storage
    return "NOAUTH; password authentication failed; SignatureDoesNotMatch"


# Workers.


@promise("workers", "as many as --scale says share the work; without it Compose goes back to one")
def scale(stack: Stack) -> str:
    with Client(stack.url) as client:
        jobs = [submit(client, seed=seed, iterations=30) for seed in range(4)]
        for job in jobs:
            finish(job)
        by = {
            job.status().attempt.worker or job.status().attempt.previous[-1].worker for job in jobs
        }
    assert len(by) == 2, by
    stack.sh("docker compose up --detach")
    one = len(running(stack, "worker"))
    stack.sh("docker compose up --detach --scale worker=2")
    wait_for("both to be well", lambda: all_healthy(stack))
    assert (one, len(running(stack, "worker"))) == (1, 2)
    return f"4 jobs by {', '.join(sorted(by))}; `up` without --scale: {one} worker"


@promise("workers", "what our own code logs is JSON, a line each")
def logs(stack: Stack) -> str:
    counts = {}
    for container in running(stack, *OURS):
        lines = stack.sh(f"docker logs {container['Id']} 2>&1").splitlines()
        told = [json.loads(line) for line in lines if line.startswith("{")]
        assert all("event" in line for line in told), told[-3:]
        counts[container["Name"].removeprefix(f"/{stack.project}-")] = f"{len(told)}/{len(lines)}"
    assert any(not count.startswith("0/") for count in counts.values()), counts
    return "lines of JSON: " + ", ".join(f"{name} {count}" for name, count in counts.items())


# Upgrades, restarts.


@promise(
    "upgrade", "running jobs are handed back within the drain, and continued by the new workers"
)
def upgrade(stack: Stack) -> str:
    pull, build, stop, up = guide("sh", "docker compose stop api").strip().splitlines()
    assert pull == "git pull"
    with Client(stack.url) as client:
        job = submit(client, iterations=4000)
        wait_for("a checkpoint", lambda: checkpoints(stack, job.id))
        stack.sh(build, seconds=3600)
        began = time.monotonic()
        stack.sh(stop)
        seconds = time.monotonic() - began
        codes = {
            c["Name"]: c["State"]["ExitCode"]
            for c in stack.containers()
            if not c["State"]["Running"]
        }
        assert set(codes.values()) == {0}, codes
        ended = stack.sql("SELECT \"end\" FROM attempts WHERE job_id = :'job'", job=job.id)
        state = stack.sql("SELECT state FROM jobs WHERE id = :'job'", job=job.id)
        assert (ended, state) == ("handed_back", "queued")
        stack.sh(up)
        document = await_attempt(job, 2)
        assert document.attempt.resumed_from_iteration > 0
        assert document.attempt.failures == 0
        job.cancel()
    return (
        f"stopped in {seconds:.1f} s, all with status 0; handed back, then attempt 2 from"
        f" iteration {document.attempt.resumed_from_iteration}"
    )


@promise("upgrade", "a process that meets another schema than its own refuses to start")
def schema(stack: Stack) -> str:
    version = stack.sql("SELECT version_num FROM alembic_version")
    stack.sql("UPDATE alembic_version SET version_num = '0000'")
    try:
        stack.sh("docker compose restart reconciler worker")
        wait_for(
            "both to refuse",
            lambda: all("needs" in stack.log(name)[-4000:] for name in ("reconciler", "worker")),
        )
        ready = httpx.get(f"{stack.url}/readyz", timeout=10)
        assert ready.status_code == 503, ready.text
    finally:
        stack.sql("UPDATE alembic_version SET version_num = :'version'", version=version)
    wait_for("all to be well again", lambda: all_healthy(stack))
    line = next(line for line in stack.log("reconciler").splitlines()[::-1] if "needs" in line)
    (said,) = re.findall(r"the database's schema is at [^;]+", line)[:1]
    return f"{said}; /readyz answers 503; well again by themselves"


@promise("restart", "a worker that is killed comes back, and its job is continued")
def killed_worker(stack: Stack) -> str:
    with Client(stack.url) as client:
        job = submit(client, iterations=4000)
        wait_for("a checkpoint", lambda: checkpoints(stack, job.id))
        began = time.monotonic()
        for worker in running(stack, "worker"):
            kill(stack, worker)
        document = await_attempt(job, 2)
        seconds = time.monotonic() - began
        wait_for("the workers to be well", lambda: all_healthy(stack))
        restarts = sum(worker["RestartCount"] for worker in running(stack, "worker"))
        assert document.attempt.resumed_from_iteration > 0
        assert restarts >= 2
        job.cancel()
    return (
        f"both killed; {restarts} restarts; attempt 2 after {seconds:.0f} s (lease"
        f" {SETTINGS['IMPASTO_LEASE_SECONDS']} s), from iteration"
        f" {document.attempt.resumed_from_iteration}"
    )


@promise("restart", "each other process that is killed comes back, and pictures are rendered")
def killed_others(stack: Stack) -> str:
    seen = []
    for service in ("api", "reconciler", *STORES):
        before = stack.container(service)["RestartCount"]
        began = time.monotonic()
        kill(stack, stack.container(service))
        wait_for(
            f"{service} to come back",
            lambda service=service, before=before: (
                stack.container(service)["RestartCount"] > before and all_healthy(stack)
            ),
        )
        with Client(stack.url) as client:
            job = submit(client, iterations=10)
            finish(job)
        seen.append(f"{service} {time.monotonic() - began:.0f} s")
    return "killed until rendered again: " + ", ".join(seen)


@promise("restart", "without Valkey a job costs a few seconds more")
def without_valkey(stack: Stack) -> str:
    stack.sh("docker compose stop valkey")
    try:
        began = time.monotonic()
        with Client(stack.url) as client:
            job = submit(client, iterations=10)
            finish(job)
        seconds = time.monotonic() - began
    finally:
        stack.sh("docker compose start valkey")
    wait_for("all to be well", lambda: all_healthy(stack))
    return f"submitted and rendered in {seconds:.0f} s while it was stopped"


# Data.


@promise("data", "volumes outlive `down`")
def down_and_up(stack: Stack) -> str:
    with Client(stack.url) as client:
        job = submit(client, iterations=10)
        finish(job)
        before = digest(job)
    stack.sh("docker compose down")
    assert not stack.containers()
    stack.sh("docker compose up --detach --scale worker=2")
    wait_for("all to be well", lambda: all_healthy(stack))
    with Client(stack.url) as client:
        assert digest(client.job(job.id)) == before
    return f"`down`, `up`: job {job.id[:8]} and its result are there"


@promise("data", "`impasto doctor` finds every promise kept")
def doctor(stack: Stack) -> str:
    told = stack.sh(guide("sh", "impasto doctor"))
    return f"{len(re.findall(r'holds$', told, re.MULTILINE))} hold, status 0"


@promise("data", "the backup is restored into a fresh stack, pictures and all")
def backup(stack: Stack) -> str:
    with Client(stack.url) as client:
        jobs = list(client.jobs(status=[State.SUCCEEDED]))
        before = {job.id: digest(client.job(job.id)) for job in jobs}
    rows = "SELECT count(*) FROM jobs"
    count = stack.sql(rows)
    stack.sh(guide("sh", "pg_dump"))
    kept = {
        name: (stack.folder / name).stat().st_size for name in ("impasto.dump", "storage.tar.gz")
    }
    wait_for("all to be well", lambda: all_healthy(stack))
    stack.sh("docker compose down --volumes")
    assert not stack.sh(f"docker volume ls --quiet --filter name={stack.project}_").strip()
    stack.sh(guide("sh", "pg_restore"))
    wait_for("all to be well", lambda: all_healthy(stack))
    assert stack.sql(rows) == count
    with Client(stack.url) as client:
        after = {job_id: digest(client.job(job_id)) for job_id in before}
        assert after == before
        finish(submit(client, iterations=10))
    stack.sh(guide("sh", "impasto doctor"))
    sizes = ", ".join(f"{name} {size / 1e3:.0f} kB" for name, size in kept.items())
    return f"{count} jobs, {len(before)} results to the bit, doctor content, renders on ({sizes})"


@promise("data", "`down --volumes` alone deletes them")
def down_with_volumes(stack: Stack) -> str:
    listed = f"docker volume ls --quiet --filter name={stack.project}_"
    before = stack.sh(listed).split()
    stack.sh("docker compose down --volumes")
    assert before
    assert not stack.sh(listed).split()
    return f"{len(before)} volumes, then none"


# What they share.


def wait_for(what: str, is_so: Callable[[], Any], seconds: float = WAIT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.5)


def running(stack: Stack, *services: str) -> list[dict[str, Any]]:
    return [
        container
        for container in stack.containers()
        if container["State"]["Running"]
        and container["Config"]["Labels"]["com.docker.compose.service"]
        in (services or STORES + OURS)
    ]


def mend(stack: Stack) -> None:
    """Start again what a promise that was broken has left stopped."""
    stack.sh("docker compose up --detach --scale worker=2")
    wait_for("all to be well", lambda: all_healthy(stack))


def all_healthy(stack: Stack) -> bool:
    found = [c for c in stack.containers() if not c["Name"].endswith("-migrate-1")]
    return bool(found) and all(
        container["State"].get("Health", {}).get("Status") == "healthy" for container in found
    )


def moment(text: str) -> datetime:
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*Z$", r"\1+00:00", text))


def connects(stack: Stack, network: str, host: str, port: int) -> str:
    """What a stranger on one of the networks meets."""
    script = (
        "import socket, sys\n"
        f"try: socket.create_connection(({host!r}, {port}), 3); print('connected')\n"
        "except OSError as error: print(error)"
    )
    options = f"--rm --network {stack.project}_{network}"
    return stack.sh(f'docker run {options} {stack.image("api")} python -c "{script}"').strip()


def in_api(stack: Stack, script: str, *, fails: bool = False) -> str:
    container = running(stack, "api")[0]["Id"]
    return stack.sh(f'docker exec {container} python -c "{script}"', fails=fails)


def kill(stack: Stack, container: dict[str, Any]) -> None:
    """Kill its first process as the kernel would; `docker kill` counts as a stop."""
    options = "--rm --privileged --pid host --user 0 --entrypoint python"
    script = f"import os; os.kill({container['State']['Pid']}, 9)"
    stack.sh(f"docker run {options} {stack.image('api')} -c '{script}'")


def submit(client: Client, *, iterations: int, seed: int = 1) -> Job:
    return client.render(
        SAMPLES / "skyline.jpg",
        [SAMPLES / "brushstrokes.jpg"],
        size=96,
        iterations=iterations,
        seed=seed,
        pyramid=1,
    )


def finish(job: Job) -> None:
    """Return once it has succeeded."""
    wait_for(f"job {job.id}", lambda: job.status().is_over)
    job.wait()


def checkpoints(stack: Stack, job_id: str) -> bool:
    return stack.sql("SELECT count(*) FROM checkpoints WHERE job_id = :'job'", job=job_id) != "0"


def await_attempt(job: Job, number: int) -> Any:
    """The job's document once a worker has taken it up so often."""
    wait_for(
        f"attempt {number}",
        lambda: (status := job.status()).attempt.n >= number and status.progress.iteration > 0,
    )
    return job.status()


def digest(job: Job) -> str:
    return hashlib.sha256(job.result()).hexdigest()
