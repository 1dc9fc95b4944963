"""The worker process: drains, arq doorbells, liveness."""
