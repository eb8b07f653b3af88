"""What clients and operators meet: the API, its client, the command line, the reconciler."""
