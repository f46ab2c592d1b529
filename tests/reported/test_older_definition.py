"""The installed definition is older than the operator: the API server drops a field of status and answers 200."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from reported.acts import deleted, fails, posts, said, theirs
from support.acting import DAY, HOUR
from support.memory_api import SimulatedWorld
from vercel_certificate_operator.core.probe import PROBE

NAMES = ["a.example.com"]
LOSSES: list[dict[str, Any]] = [{"action": "reset", "when": "after"}, {"status": 402}, {"status": 500}]
NEVER_LACKED = {"attempt.id", "attempt.start", "superseded.id", "superseded.since", "issuances.time"}
"""Without these, a record can't be read: that is RecordUnreadable."""


def fields(value: Any, way: str = "") -> Iterator[str]:
    """Yields every field of a status, with a dot between names."""
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            for name, member in item.items():
                yield way + name
                yield from fields(member, f"{way}{name}.")


FIELDS = sorted({field for field in fields(PROBE.dump()) if not field.startswith("conditions.")} - NEVER_LACKED)


async def the_definition_lacks(world: SimulatedWorld, field: str | None) -> None:
    """From now on, also of what was stored before. The operator starts again."""
    await world.crash()
    world.memory.lacks = field
    for body in await world.all():
        await world.patch_status(body["metadata"]["name"], body.get("status"))
    world.memory.dropped = 0
    world.start()
    await world.quiet()


async def does_little(world: SimulatedWorld, spent: timedelta) -> None:
    """Assert that the operator asks Kubernetes and Vercel for little in that time."""
    asked, journal = len(world.memory.asked), world.emulator.journal.last
    await world.advance(spent)
    most = 20 + 14 * (spent / HOUR)  # every ten minutes a check and a write
    assert len(world.memory.asked) - asked <= most, await world.condition("site", "Issuing")
    assert world.emulator.journal.last - journal <= most, await world.condition("site", "Issuing")


async def reports_it(world: SimulatedWorld) -> None:
    if world.memory.dropped:
        assert await said(world, "SchemaOutdated")
        if world.memory.lacks != "conditions":
            assert await world.issuing("site") == ("False", "SchemaOutdated")


@pytest.mark.parametrize("field", FIELDS)
async def test_one_request_to_renew_issues_one_certificate_and_is_no_loop(world: SimulatedWorld, field: str) -> None:
    theirs(world, *NAMES, id="cert_theirs", age=20 * DAY)
    await world.apply("site", NAMES, existingCertificate="Ignore")
    await world.quiet()
    await world.advance(HOUR)
    await the_definition_lacks(world, field)
    before = posts(world)
    await world.annotate("site", "renew", "1")
    await does_little(world, 3 * HOUR)
    await reports_it(world)
    await world.restart()
    await does_little(world, 3 * HOUR)
    await reports_it(world)
    assert posts(world) - before <= 1
    await the_definition_lacks(world, None)
    await world.advance(HOUR)
    assert await world.ready("site") == ("True", "Issued")
    assert await world.issuing("site") == ("False", "Issued")
    await deleted(world)
    assert "cert_theirs" in world.live()


@pytest.mark.parametrize("fault", LOSSES, ids=("lost", "refused", "broken"))
@pytest.mark.parametrize("field", FIELDS)
async def test_a_first_issue_that_fails_is_no_loop_either(
    world: SimulatedWorld, field: str, fault: dict[str, Any]
) -> None:
    await the_definition_lacks(world, field)
    fails(world, "issue", **fault)
    await world.apply("site", NAMES)
    await world.quiet()
    await does_little(world, 3 * HOUR)
    await reports_it(world)
    assert posts(world) <= 2
    await deleted(world)
