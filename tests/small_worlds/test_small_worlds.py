"""All that can happen in small worlds, as far as a few thousand states go. ``make worlds`` goes deeper."""

from collections.abc import Callable

import pytest

from small_worlds.explore import Explorer, Violation
from small_worlds.world import World
from small_worlds.worlds import ONE, WORLDS, begun, requesting
from vercel_certificate_operator.core import decide
from vercel_certificate_operator.core.rules import attempts, deletion, gates

STATES = 1_500
"""About two seconds for each world."""

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("world", WORLDS)
def test_whatever_happens_the_promises_hold_and_the_world_settles(world: str) -> None:
    explorer = Explorer(WORLDS[world]())
    violation = explorer.explore(states=STATES)
    assert violation is None, str(violation)
    assert len(explorer.states) >= STATES


def found_in(world: World) -> Violation:
    violation = Explorer(world).explore(states=STATES)
    assert violation is not None
    return violation


def test_two_resources_that_both_request_the_same_names_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "GATES", without(gates.GATES, gates.names_have_one_owner))
    assert "b sends attempt-9 although a has cert_6 for the same names" in str(
        found_in(begun({"cns": ONE}, {"cns": ONE}))
    )


def test_a_request_whose_answer_is_not_searched_for_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide, "POLICIES", without(decide.POLICIES, attempts.open_attempt_is_searched_for))
    violation = found_in(requesting({"cns": ONE}, faults=1, others=1))
    assert violation.what == ("It does not settle.",)
    assert violation.trace[1:-1] == ("0: crash", "POST attempt-3 of a: carried out")


def test_a_certificate_that_a_deletion_does_not_wait_for_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    early = list(without(decide.POLICIES, deletion.certificates_are_removed_then_released))
    early.insert(0, deletion.certificates_are_removed_then_released)
    monkeypatch.setattr(decide, "POLICIES", tuple(early))
    violation = found_in(requesting({"cns": ONE}, faults=1, others=1))
    assert violation.what == ("cert_6 is left at Vercel, and nothing says so",)
    assert violation.trace[1:-1] == ("others: delete it",)


def without(rules: tuple[Callable[..., object], ...], rule: Callable[..., object]) -> tuple[Callable[..., object], ...]:
    assert rule in rules
    return tuple(other for other in rules if other is not rule)
