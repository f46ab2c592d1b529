"""What was recorded while a clock was wrong neither stays nor counts for longer, nor is it forgotten earlier."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from core.building import DAY, HOUR, MINUTE, NEW, NOW, SECOND, answered, cert, known, led_to, listed, ready, status_of
from vercel_certificate_operator.core.decide import decide
from vercel_certificate_operator.core.facts import unchanged
from vercel_certificate_operator.core.known import Issue, Remove, Wait, Write
from vercel_certificate_operator.core.record import Issuance, Superseded, names_hash
from vercel_certificate_operator.core.resource import Status

WEEK = 7 * DAY
RULE = "times_of_the_future_are_corrected"


def with_times(*times: datetime) -> Status:
    issuances = tuple(Issuance(time=time, names_hash=names_hash(["example.com"])) for time in times)
    superseded = tuple(Superseded(id=f"cert_old{n}", origin="Issued", since=time) for n, time in enumerate(times))
    return ready(issuances=issuances, superseded=superseded)


@pytest.mark.parametrize(
    ("time", "skew", "corrected"),
    [
        (NOW + MINUTE, None, None),
        (NOW + MINUTE + SECOND, None, NOW),
        (NOW + 400 * DAY, None, NOW),
        (NOW + 3 * DAY + MINUTE, -3 * DAY, None),
        (NOW + 3 * DAY + MINUTE + SECOND, -3 * DAY, NOW + 3 * DAY),
        (NOW + MINUTE, 3 * DAY, None),
        (NOW + MINUTE + SECOND, 3 * DAY, NOW),
    ],
)
def test_what_happened_in_the_future_by_both_clocks_counts_from_now_on(
    time: datetime, skew: timedelta | None, corrected: datetime | None
) -> None:
    status = with_times(NOW - HOUR, time)
    facts = known(status=status, clock_skew=skew)
    decision = decide(facts)
    assert (decision.policy == RULE) is (corrected is not None)
    if corrected is None:
        return
    assert decision.action == Write()
    assert decision.note is None
    assert decision.status is not None
    assert [entry.time for entry in decision.status.issuances] == [NOW - HOUR, corrected]
    assert [entry.since for entry in decision.status.superseded] == [NOW - HOUR, corrected]
    assert decision.status.changed(issuances=status.issuances, superseded=status.superseded) == unchanged(facts)
    assert decide(known(status=decision.status, clock_skew=skew)).policy != RULE


def test_what_was_replaced_in_the_future_is_removed_after_the_usual_time() -> None:
    old = Superseded(id="cert_old", origin="Issued", since=NOW + 400 * DAY)
    corrected = decide(known(status=ready(superseded=(old,)))).status
    assert corrected is not None
    assert isinstance(decide(known(status=corrected, now=NOW + 10 * MINUTE - SECOND)).action, Wait)
    assert isinstance(decide(known(status=corrected, now=NOW + 10 * MINUTE)).action, Remove)


# --- the issuance limit ----------------------------------------------------------------------------------------------


def five(time: datetime) -> Status:
    return status_of(issuances=(Issuance(time=time, names_hash=names_hash(["example.com"])),) * 5)


@pytest.mark.parametrize("skew", [None, 3 * DAY, -3 * DAY], ids=str)
def test_an_issuance_leaves_the_window_by_the_clock_that_is_behind(skew: timedelta | None) -> None:
    ahead = skew if skew is not None and skew > timedelta() else timedelta()
    last = NOW - ahead - WEEK
    limited = decide(known(status=five(last + SECOND), clock_skew=skew, listing=listed()))
    assert (limited.policy, limited.action) == ("issuances_are_limited", Wait(NOW + SECOND))
    assert isinstance(led_to(known(status=five(last), clock_skew=skew))[1].action, Issue)


@pytest.mark.parametrize(("skew", "time"), [(None, NOW), (3 * DAY, NOW), (-3 * DAY, NOW + 3 * DAY)], ids=str)
def test_an_issuance_is_recorded_by_the_clock_that_is_ahead(skew: timedelta | None, time: datetime) -> None:
    decision = decide(replace(known(**answered(NEW)), clock_skew=skew))
    assert decision.status is not None
    assert [entry.time for entry in decision.status.issuances] == [time]


@pytest.mark.parametrize("ahead", [-400 * DAY, -8 * DAY, 8 * DAY, 400 * DAY], ids=str)
@pytest.mark.parametrize("wrong", [(6, 14), (0, 20), (0, 1)])
def test_a_clock_that_is_wrong_for_a_while_makes_nothing_be_forgotten(ahead: timedelta, wrong: tuple[int, int]) -> None:
    """Names flip between two values every 20 minutes. The API server's clock is right."""
    status, posts = status_of(), 0
    for number in range(24):
        skew = ahead if wrong[0] <= number < wrong[1] else None
        now = NOW + number * 20 * MINUTE
        cns = ["a.com", "b.com"][number % 2 : number % 2 + 1]
        facts = known(
            status=status, cns=cns, now=now + (skew or timedelta()), clock_skew=skew, new_attempt_id=f"attempt-{number}"
        )
        held = () if status.id is None else (cert(status.id, status.cns, created=now),)
        facts, decision = led_to(facts, *held)
        status = facts.resource.status
        if isinstance(decision.action, Issue):
            posts += 1
            attempt = decision.action.attempt
            brought = cert(f"cert_{number}", cns, created=now)
            done = known(
                status=status.changed(attempt=attempt),
                cns=cns,
                now=facts.now,
                clock_skew=skew,
                **answered(brought, attempt, at=facts.now),
            )
            written = decide(done).status
            assert written is not None
            status = written.changed(superseded=())
    assert posts == 5
