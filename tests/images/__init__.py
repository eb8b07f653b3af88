"""The images really built, and docker-compose.yml really started: `make test-images`."""
