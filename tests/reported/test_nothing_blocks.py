"""A certificate is renewed, and a resource becomes Ready, whatever is wrong with something else."""

from datetime import UTC, datetime
from typing import Any

import pytest

from reported.acts import behave, deleted, fails, held, theirs
from support.acting import DAY, HOUR, MINUTE, advance_to
from support.memory_api import SimulatedWorld

A = ["a.example.com"]


@pytest.mark.parametrize("other", [False, True], ids=["alone", "beside an older resource in another team"])
@pytest.mark.parametrize("broken", ["list", "get"])
async def test_a_certificate_is_renewed_without_a_list_whatever_other_teams_have(
    world: SimulatedWorld, other: bool, broken: str
) -> None:
    """docs/how-it-works.md: it renews without a list in the second half of the time until the expiry."""
    behave(world, lifetime=9 * DAY)
    if other:
        await world.apply("old", A, team={"slug": "alpha"})
        await world.quiet()
        await world.advance(5)
    await world.apply("site", A, team={"id": "team_beta"}, renewBefore="4h")
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")
    [first] = await held(world)
    await advance_to(world, (await world.status("site"))["renewalTime"], plus=-60)
    if broken == "list":
        fails(world, "list", None, status=501, code="not_implemented")
    else:
        fails(world, "get", None, status=429, code="rate_limited", headers={"Retry-After": "600"})
    await world.advance(1.5 * HOUR)
    assert (await world.status("site"))["id"] == first, "it waits in the first half"
    await world.advance(1.5 * HOUR)
    assert (await world.status("site"))["id"] != first, "an hour before it expires"
    assert await world.ready("site") == ("True", "Issued")


async def test_one_replaced_certificate_that_cannot_be_removed_does_not_block_a_full_record(
    world: SimulatedWorld,
) -> None:
    """As test_names_that_change_again_and_again_are_issued_in_the_end; Vercel refuses to remove the oldest one."""
    for number in range(23):
        await world.apply("site", [f"a{number}.example.com"])
        await world.quiet()
        if number == 0:
            [oldest] = await held(world)
            fails(world, "remove", None, id=oldest, status=409, code="cert_in_use")
        await world.advance(5)
    await world.advance(DAY)
    assert await world.ready("site") == ("True", "Issued")


async def test_wrong_answers_do_not_get_the_last_good_certificate_removed(world: SimulatedWorld) -> None:
    """docs/reasons.md: while the current one can't be used, only what a younger one makes redundant is removed."""
    await world.apply("site", A)
    await world.quiet()
    [good] = await held(world)
    issue, numbers = world.emulator.state.issue, iter(range(100))

    def wrong(cns: Any, **more: Any) -> Any:
        return issue([f"wrong-{next(numbers)}.example.com"], **more)

    world.emulator.state.issue = wrong  # type: ignore[method-assign]
    await world.apply("site", [*A, "b.example.com"])
    await world.quiet()
    for number in range(23):
        await world.annotate("site", "renew", str(number))
        await world.advance(15 * MINUTE)
    assert good in world.live()


@pytest.mark.parametrize("how", ["reuse", "adopt", "answer", "late"])
async def test_a_certificate_without_a_well_defined_end_is_no_bug(
    world: SimulatedWorld, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 5280: 99991231235959Z."""
    end = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp() * 1000)
    if how in ("answer", "late"):
        issue = world.emulator.state.issue

        def endless(cns: Any, **more: Any) -> Any:
            certificate = issue(cns, **more)
            certificate.expires_at = end
            return certificate

        world.emulator.state.issue = endless  # type: ignore[method-assign]
        if how == "late":
            fails(world, "issue", action="reset", when="after")
        await world.apply("site", A)
    else:
        one = theirs(world, *A, age=DAY)
        one.expires_at = end
        named = {"vercel-operator.io/adopt-id": one.id} if how == "adopt" else {}
        await world.apply("site", A, annotations=named)
    await world.quiet()
    await world.advance(2 * DAY)
    assert await world.ready("site") == ("True", "Issued")
    await world.annotate("site", "renew", "1")
    await world.advance(DAY)
    await world.restart()
    await deleted(world)
    assert "bug" not in caplog.text
    assert "Traceback" not in caplog.text
