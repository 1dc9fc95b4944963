"""Property tests run the same examples every time: a failure that nobody can repeat helps nobody, and a deadline on
a busy machine fails for no reason of ours."""

from hypothesis import settings

settings.register_profile("repeatable", settings.get_profile("any machine"), derandomize=True, database=None)
settings.load_profile("repeatable")
