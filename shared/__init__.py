"""The contract between both sides of the queue: what the API and the workers must agree on."""
