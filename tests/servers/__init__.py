"""Real servers for the tests: Postgres, Valkey and S3, from packages, without root or Docker."""
