"""A worker process for `test_wakeups`: `python listener.py BROKER_URL`.

It says "ready", then "woken" at each wake-up, upon which it is busy until it is sent a line.
"""

import sys

from celery import signals

from impasto.shared.wakeups.celery import WAKE, celery_app


def main(broker_url: str) -> None:
    app = celery_app(broker_url)
    app.set_default()

    @signals.worker_ready.connect(weak=False)
    def ready(**_: object) -> None:
        print("ready", flush=True)

    @app.task(name=WAKE, ignore_result=True)
    def wake() -> None:
        print("woken", flush=True)
        sys.stdin.readline()

    app.worker_main(
        [
            "--quiet",
            "worker",
            "--pool=threads",
            "--concurrency=1",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            "--loglevel=ERROR",
        ]
    )


if __name__ == "__main__":
    main(sys.argv[1])
