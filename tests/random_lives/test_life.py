"""Model-based: random lives of a few resources, and what must hold in each of them.

A fixed set of lives, the same in every run, is part of ``make test``. For as many random ones as wanted::

    MODEL_EXAMPLES=2000 .venv/bin/python -m pytest tests/random_lives/test_life.py

prints its seed; ``MODEL_SEED=…`` repeats it. ``MODEL_STEPS`` is how many steps a life has at most (20). A failure is
shrunk to the fewest steps that show it, and printed as the code of a test.
"""

import os
import random

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from random_lives.life import Life

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "0"))
STEPS = int(os.environ.get("MODEL_STEPS", "20"))
IN_EVERY_RUN = 20
"""Lives; half a minute's worth on a slow machine."""


@pytest.mark.usefixtures("one_authority")
def test_whatever_happens_no_certificate_is_lost_or_doubled_and_in_the_end_all_is_well() -> None:
    profile = settings(
        max_examples=EXAMPLES or IN_EVERY_RUN,
        stateful_step_count=STEPS,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        print_blob=True,
        verbosity=Verbosity.normal,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    machine: type[Life] = Life
    if EXAMPLES:
        number = int(os.environ.get("MODEL_SEED") or random.SystemRandom().randrange(2**32))
        print(f"MODEL_SEED={number}")
        machine = seed(number)(Life)
    run_state_machine_as_test(machine, settings=profile)
