"""How gunicorn serves the API: `gunicorn --config deploy/gunicorn.conf.py`, on 127.0.0.1:8000.

`--bind` says another address; WEB_CONCURRENCY another number of processes than one.
"""

wsgi_app = "impasto.services.api.wsgi:application()"
worker_class = "impasto.services.api.gunicorn_worker.Worker"  # gthread; refuses in problem+json
threads = 8  # requests wait for the database and the storage more than they compute
timeout = 60  # a process that hangs for so long is replaced
graceful_timeout = 20  # docker-compose.yml grants 30
keepalive = 75  # longer than the usual 60 s of a load balancer, which would meet closed sockets
forwarder_headers = ""  # no header moves the API to another path
control_socket_disable = True  # a file in the home folder, which containers cannot write
