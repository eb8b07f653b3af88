"""OpenStack Swift with its S3 API, all four servers in one process; logs to stderr.

Run as `python _swift_app.py FOLDER PORT ACCESS_KEY SECRET_KEY [ADDRESS]`. Objects are in
FOLDER/device, one replica; its filesystem must keep extended attributes. Configuration and rings
are written anew at each start, because the servers behind the proxy take any port that is free.
"""

import logging
import sys
from pathlib import Path

from swift.common import utils
from swift.common.concurrency import greenthread, listen, socket, spawn, wsgi
from swift.common.http_protocol import SwiftHttpProtocol
from swift.common.ring import RingBuilder
from swift.common.utils import logs
from swift.common.wsgi import loadapp

LOCALHOST = "127.0.0.1"
DEVICE = "device"

HASHES = """
[swift-hash]
swift_hash_path_suffix = impasto
"""

# A busy machine must not change what is served: there is no second replica to ask, and no daemon
# that would bring a listing up to date later.
COMMON = """
[DEFAULT]
swift_dir = {folder}
conn_timeout = 30
node_timeout = 30
container_update_timeout = 30
error_suppression_limit = 1000000
"""

STORAGE = """
[app:main]
use = egg:swift#{name}
devices = {folder}
mount_check = false
disable_fallocate = true
log_requests = false
"""

# There is no cache, hence no memcached: tempauth would need one for tokens of its own, which S3
# requests do not carry, and the proxy asks for account and bucket each time instead. Swift adds
# the filters that it cannot do without (catch_errors, gatekeeper, listing_formats, copy, dlo).
PROXY = """
[pipeline:main]
pipeline = proxy-logging s3api tempauth slo proxy-server

[filter:proxy-logging]
use = egg:swift#proxy_logging

[filter:s3api]
use = egg:swift#s3api

[filter:tempauth]
use = egg:swift#tempauth
user_{user} = {secret_key} .admin

[filter:slo]
use = egg:swift#slo

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
"""


def main(
    folder: Path, port: int, access_key: str, secret_key: str, address: str = LOCALHOST
) -> None:
    log_to_stderr()
    (folder / DEVICE).mkdir(exist_ok=True)
    (folder / "swift.conf").write_text(HASHES)
    utils.set_swift_dir(str(folder))
    utils.monkey_patch()
    for name in ("account", "container", "object"):
        behind = listen((LOCALHOST, 0))
        write_ring(folder / f"{name}.ring.gz", port=behind.getsockname()[1])
        serve(behind, configuration(folder, name, STORAGE))
    user = access_key.replace(":", "_")
    proxy = configuration(folder, "proxy", PROXY, user=user, secret_key=secret_key)
    serve(listen((address, port)), proxy).wait()


def log_to_stderr() -> None:
    """Swift logs to the machine's syslog and nowhere else, unless its handler is another."""
    logs.ThreadSafeSysLogHandler = lambda **_: logging.StreamHandler(sys.stderr)


def write_ring(path: Path, port: int) -> None:
    """A ring with one partition, on one device, behind one port."""
    builder = RingBuilder(part_power=0, replicas=1, min_part_hours=0)
    device = {"region": 1, "zone": 1, "ip": LOCALHOST, "port": port, "device": DEVICE, "weight": 1}
    builder.add_dev(device)
    builder.rebalance()
    builder.get_ring().save(str(path))


def configuration(folder: Path, name: str, template: str, **values: str) -> Path:
    path = folder / f"{name}-server.conf"
    path.write_text((COMMON + template).format(folder=folder, name=name, **values))
    return path


def serve(sock: socket.socket, configuration: Path) -> greenthread.GreenThread:
    """Serve one app in the background.

    As `swift.common.wsgi.run_server` does, which cannot be used twice in a process: it replaces
    the event loop.
    """
    app = loadapp(str(configuration), global_conf={"log_name": configuration.stem})
    log = logs.NullLogger()  # the apps themselves log what they serve
    return spawn(wsgi.server, sock, app, log=log, protocol=SwiftHttpProtocol)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
