"""Fixtures that every test may ask for. Wiring only: what they do stands in tests/support."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.support.logs", "tests.support.database", "tests.support.application"]

# How fast examples are made says something about the machine and nothing about the code: a busy one failed the build.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
