"""The embedded stack refuses what it cannot do, and says why."""

import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from impasto.services.client import Client
from impasto.services.embedded import Embedded
from impasto.shared.errors import InvalidSetting
from impasto.shared.settings import Settings
from impasto.workers.engine.errors import WeightsError
from tests.arrange.pictures import paint
from tests.servers.server import has_ipv6

LOCALHOST = "127.0.0.1"
ROOT = Path(__file__).parents[2]


def settings_of(home: Path, **settings: object) -> Settings:
    return Settings(**{"home": home, "port": 0, **settings})


def open_files(folder: Path) -> list[str]:
    """What this process has open below a folder, where the system tells."""
    opened = []
    for descriptor in Path("/proc/self/fd").glob("*"):
        with suppress(OSError):  # the one that lists them
            opened.append(str(descriptor.readlink()))
    return [name for name in opened if name.startswith(str(folder))]


def test_a_folder_is_served_by_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        Embedded(settings_of(tmp_path)),
        pytest.raises(InvalidSetting, match="another process serves from"),
    ):
        Embedded(settings_of(tmp_path)).__enter__()

    with Embedded(settings_of(tmp_path)) as service, Client(service.url) as client:
        assert list(client.jobs()) == []


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((LOCALHOST, 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(InvalidSetting, match=rf"cannot listen on {LOCALHOST} port {port}"):
            Embedded(settings_of(tmp_path, port=port)).__enter__()

    with Embedded(settings_of(tmp_path)):
        pass  # the folder was let go


def test_weights_that_cannot_be_used_end_the_service(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(b"no weights")

    with (
        Embedded(settings_of(tmp_path / "home", weights=str(wrong))) as service,
        pytest.raises(WeightsError, match=r"wrong\.safetensors"),
    ):
        service.wait()
    assert open_files(tmp_path) == []


def test_a_job_that_waits_for_the_worker_is_rendered_once_it_is_there(tmp_path: Path) -> None:
    with Embedded(settings_of(tmp_path)) as service, Client(service.url) as client:
        job = client.render(paint(1), paint(2), size=64, iterations=2, snapshot_every=0)

        assert job.wait().attempt.n == 1
        assert open_files(tmp_path) or sys.platform != "linux"
    assert open_files(tmp_path) == []


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 at all")
@pytest.mark.parametrize("host", ["::1", "::", "[::1]"])
def test_the_service_listens_on_ipv6(host: str, tmp_path: Path) -> None:
    with Embedded(settings_of(tmp_path, host=host)) as service:
        assert service.url.startswith("http://[::1]:")
        with Client(service.url) as client:
            assert client.answers()
        if host == "::" and socket.has_dualstack_ipv6():
            with Client(service.url.replace("[::1]", LOCALHOST)) as client:
                assert client.answers(), "it takes IPv4, too"


def test_an_address_of_no_machine_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"cannot listen on nobody\.invalid.*IMPASTO_HOST"):
        Embedded(settings_of(tmp_path, host="nobody.invalid")).__enter__()


def test_a_job_of_an_earlier_life_is_looked_for_at_once(tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights")
    with (
        Embedded(settings_of(tmp_path, weights=str(broken))) as service,
        Client(service.url) as client,
    ):
        job_id = client.render(paint(1), paint(2), size=64, iterations=2, snapshot_every=0).id
        with pytest.raises(WeightsError):
            service.worker.result()
        queue = client.job(job_id).status().queue
        assert (queue.runnable, queue.code) == (False, "no_worker")

    with (
        Embedded(settings_of(tmp_path, idle_seconds=600)) as service,
        Client(service.url) as client,
    ):
        assert client.job(job_id).wait().attempt.n == 1


@pytest.mark.parametrize("broker_url", ["memory://", f"redis://{LOCALHOST}:1/0"])
def test_each_job_is_begun_at_once_however_seldom_the_worker_polls(
    broker_url: str, tmp_path: Path
) -> None:
    with (
        Embedded(settings_of(tmp_path, broker_url=broker_url, idle_seconds=600)) as service,
        Client(service.url) as client,
    ):
        for seed in (1, 2):  # the first poll may find the first one
            job = client.render(paint(seed), paint(3), size=64, iterations=2, snapshot_every=0)
            assert job.wait().attempt.n == 1


def test_one_process_needs_no_celery(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from impasto.services.client import Client
from impasto.services.embedded import Embedded
from impasto.shared.settings import Settings
from tests.arrange.pictures import paint

settings = Settings(home=Path(sys.argv[1]), port=0)
with Embedded(settings) as service, Client(service.url) as client:
    client.render(paint(1), paint(2), size=64, iterations=2, snapshot_every=0).wait()
print(*sorted({"celery", "kombu", "redis", "torch"} & set(sys.modules)))
"""
    told = subprocess.check_output([sys.executable, "-c", code, tmp_path], cwd=ROOT, text=True)

    assert told.splitlines()[-1] == "torch"
