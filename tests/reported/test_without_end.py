"""No mistake of ours, of a clock, of Vercel or of a tool issues without end."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from reported.acts import behave
from support.acting import DAY, HOUR, MINUTE, asked
from support.memory_api import SimulatedWorld
from vercel_certificate_operator.accounts import Account
from vercel_certificate_operator.vercel import VercelClient
from vercel_emulator.models import Fault

NAMES = ["a.example.com"]


@pytest.fixture(autouse=True)
def posts_take_time(monkeypatch: pytest.MonkeyPatch, world: SimulatedWorld) -> None:
    """A POST takes 5 s. On a clock that stands still meanwhile, a loop would not show."""
    original: Callable[..., Any] = VercelClient.issue

    async def issue(self: VercelClient, *args: Any) -> Any:
        world.clock.pause(5)
        return await original(self, *args)

    monkeypatch.setattr(VercelClient, "issue", issue)


async def test_an_expiry_in_the_past_is_reported_and_tried_again_daily(world: SimulatedWorld) -> None:
    past = world.emulator.clock.now_ms() - 1000
    answer = {"call": "any", "times": None, "action": "answer", "fields": {"expiresAt": past}}
    world.emulator.faults.add(Fault.model_validate(answer))
    await world.apply("site", NAMES)
    await world.quiet()
    await world.advance(10 * MINUTE)
    assert len(asked(world, "issue")) == 1
    assert (await world.ready("site")) == ("False", "UnexpectedAnswer")
    await world.advance(14 * DAY)
    assert len(asked(world, "issue")) <= 11, "five a week"


@pytest.mark.parametrize("get", [404, 500])
async def test_if_only_the_list_says_when_certificates_expire_each_renewal_is_one_request(
    world: SimulatedWorld, get: int
) -> None:
    behave(world, lifetime=3 * DAY)
    await world.apply("site", NAMES)
    await world.quiet()
    for fault in ({"call": "get", "status": get}, {"call": "issue", "action": "answer", "omit": ["expiresAt"]}):
        world.emulator.faults.add(Fault.model_validate({"times": None, **fault}))
    for _ in range(10):
        await world.advance(DAY / 2)
        assert await world.ready("site") == ("True", "Issued")
    assert len(asked(world, "issue")) == 3
    assert len(world.live()) == 1


@pytest.mark.parametrize("days", [10, 62, 91, 400])
async def test_a_node_whose_clock_is_days_ahead_issues_once(world: SimulatedWorld, days: int) -> None:
    world.clock.step(days * 86400)
    spec: dict[str, Any] = {"renewBefore": "2000h"} if days == 10 else {}
    await world.apply("site", NAMES, **spec)
    await world.quiet()
    await world.advance(DAY)
    assert len(asked(world, "issue")) == 1
    assert await world.ready("site") == ("True", "Issued")


@pytest.mark.parametrize("days", [-400, 400])
async def test_a_clock_that_steps_while_the_operator_runs_issues_nothing(world: SimulatedWorld, days: int) -> None:
    await world.apply("site", NAMES)
    await world.quiet()
    world.clock.step(days * 86400)
    await world.annotate("site", "note", "x")
    await world.quiet()
    await world.advance(DAY)
    assert len(asked(world, "issue")) == 1
    assert await world.ready("site") == ("True", "Issued")


async def test_a_manifest_with_the_operators_own_fields_that_self_heal_restores_issues_nothing(
    world: SimulatedWorld,
) -> None:
    """Exported with kubectl get -o yaml, put into Git with everything in it, and applied again and again."""
    await world.apply("site", NAMES)
    await world.quiet()
    exported = await world.get("site")
    assert exported is not None
    await world.apply("site", [*NAMES, "b.example.com"])
    for _ in range(10):
        await world.annotate("site", "attempt", json.dumps(exported["status"]["attempt"]))
        await world.quiet()
        await world.advance(5)
    assert len(asked(world, "issue")) == 2


async def test_a_status_that_loses_its_record_does_not_issue_without_end(world: SimulatedWorld) -> None:
    """Another writer wipes status again and again."""
    await world.apply("site", NAMES)
    await world.quiet()
    for _ in range(60):
        await world.patch_status("site", None)
        await world.quiet()
        await world.advance(10)
    assert len(asked(world, "issue")) == 1, "the certificate is found again"


async def test_renew_before_that_flips_between_two_values_ends_no_wait(world: SimulatedWorld) -> None:
    refused = {"call": "issue", "status": 400, "code": "invalid_cn", "times": None}
    world.emulator.faults.add(Fault.model_validate(refused))
    await world.apply("site", NAMES, renewBefore="24h")
    await world.quiet()
    for number in range(60):
        await world.apply("site", NAMES, renewBefore="24h" if number % 2 else "48h")
        await world.quiet()
        await world.advance(5)
    assert len(asked(world, "issue")) == 1


async def test_names_that_flip_between_two_sets_reach_the_issuance_limit(world: SimulatedWorld) -> None:
    for number in range(12):
        await world.apply("site", NAMES if number % 2 else ["b.example.com"])
        await world.quiet()
        await world.advance(HOUR)
    issued = len(asked(world, "issue"))
    assert issued <= 6
    assert await world.issuing("site") == ("False", "IssuanceLimited")
    await world.annotate("site", "renew", "now")
    await world.quiet()
    assert len(asked(world, "issue")) == issued + 1, "a user's request is not limited"
    await world.advance(8 * DAY)
    assert await world.ready("site") == ("True", "Issued")


@pytest.mark.parametrize(("delay", "lists"), [(20, 1), (120, 1), (121, 2)])
async def test_an_operator_that_is_busy_uses_the_list_that_a_resource_has_waited_for(
    world: SimulatedWorld, monkeypatch: pytest.MonkeyPatch, delay: float, lists: int
) -> None:
    """A thousand tokens are new at once: others go first, for longer than a fresh list may be old."""
    read, delays = Account._list, [delay]

    async def read_and_be_busy(self: Account, *args: Any) -> None:
        await read(self, *args)
        world.clock.pause(delays.pop() if delays else 0)

    monkeypatch.setattr(Account, "_list", read_and_be_busy)
    await world.apply("site", NAMES)
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")
    assert len(asked(world, "list")) == lists
