"""Fixtures that every test may ask for. Wiring only: what they do stands in tests/support."""

pytest_plugins = ["tests.support.logs", "tests.support.database", "tests.support.application"]
