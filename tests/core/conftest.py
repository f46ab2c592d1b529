"""Profiles for the laws.

Usually the examples are the same in every run, and few enough for every run. ``pytest tests/core
--hypothesis-profile=long`` looks for new ones, for some minutes.
"""

from hypothesis import HealthCheck, settings

USUAL = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=60,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("usual", USUAL)
settings.register_profile("long", USUAL, derandomize=False, max_examples=2000)
if settings.get_current_profile_name() != "long":
    settings.load_profile("usual")
