"""`impasto render` on a disk without room ends, and says why."""

import resource
import subprocess
from contextlib import closing
from pathlib import Path

from impasto.shared.database import jobs, open_database
from impasto.shared.states import State
from tests.arrange.paths import BIN
from tests.arrange.pictures import paint
from tests.arrange.processes import outside
from tests.servers.server import free_port

# The largest file that may be written: room for a database and for two small pictures, not for the
# one that a storage has to have room for. The system refuses more just as it does on a full disk.
FILE_BYTES = 700_000


def test_a_service_of_our_own_that_has_no_room_ends_the_command(tmp_path: Path) -> None:
    home, pictures = tmp_path / "home", [tmp_path / "photo.png", tmp_path / "painting.png"]
    for seed, path in enumerate(pictures):
        path.write_bytes(paint(seed, size=(96, 72)))

    ended = subprocess.run(
        [BIN / "impasto", "render", *pictures, "--size", "64", "-o", tmp_path / "out.png"],
        env={**outside(), "IMPASTO_HOME": str(home), "IMPASTO_PORT": str(free_port())},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    *before, last = ended.stderr.splitlines()
    assert ended.returncode == 1
    assert any(line.startswith("queued     next · 1 worker is out of disk") for line in before)
    assert last.startswith("impasto: job ")
    assert last.endswith("is out of disk: the storage has no room for a picture")
    with closing(open_database(f"sqlite:///{home / 'impasto.db'}")) as database:
        (job,) = jobs.list_jobs(database)
    assert f"job {job.id} is cancelled" in last
    assert (job.state, job.attempt) == (State.CANCELLED, 0)
