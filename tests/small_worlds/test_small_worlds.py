"""All that can happen in small worlds, as far as a few thousand states go. ``make worlds`` goes deeper."""

from collections.abc import Callable

import pytest

from small_worlds.explore import Explorer, Violation
from small_worlds.worlds import WORLDS
from vercel_certificate_operator.core import decide
from vercel_certificate_operator.core.rules import gates

STATES = 2_500
"""About three seconds."""


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
def test_whatever_happens_the_promises_hold_and_the_world_settles(world: str) -> None:
    explorer = Explorer(WORLDS[world]())
    violation = explorer.explore(states=STATES)
    assert violation is None, str(violation)
    assert len(explorer.states) >= STATES
    assert explorer.depth >= 3


def violation_without(rule: Callable[..., object], world: str, monkeypatch: pytest.MonkeyPatch) -> Violation:
    """Returns what the exploration finds if the operator lacks a rule."""
    monkeypatch.setattr(decide, "POLICIES", tuple(other for other in decide.POLICIES if other is not rule))
    monkeypatch.setattr(gates, "GATES", tuple(other for other in gates.GATES if other is not rule))
    violation = Explorer(WORLDS[world]()).explore(states=2 * STATES)
    assert violation is not None
    return violation
