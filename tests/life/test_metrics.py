"""What Prometheus is told, through the life of certificates."""

from datetime import datetime

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from support.acting import HOUR, MINUTE, REF, advance_to, put_secret
from support.world import OTHER_TOKEN, World
from vercel_emulator import Fault

PREFIX = "vercel_operator_"


class Told(dict[tuple[str, frozenset[tuple[str, str]]], float]):
    """All samples of a scrape, by name (without the prefix) and labels."""

    def __call__(self, name: str, /, **labels: str) -> float:
        return self[name, frozenset(labels.items())]

    def names(self, **labels: str) -> set[str]:
        """Of the samples that have these labels, among others."""
        return {name for name, its in self if labels.items() <= dict(its).items()}


def told(world: World, *, leads: bool = True, per_certificate: bool = True) -> Told:
    text = generate_latest(world.scrape(leads=leads, per_certificate=per_certificate)).decode()
    return Told(
        {
            (sample.name.removeprefix(PREFIX), frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    )


def unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def test_a_certificate_is_exported_from_its_first_second_to_its_last(world: World) -> None:
    who = {"namespace": world.namespace, "name": "site"}
    await world.apply("site", ["example.com"])
    await world.quiet()
    status, seen = await world.status("site"), told(world)
    assert seen("certificate_not_after_timestamp_seconds", **who) == unix(status["expiresAt"])
    assert seen("certificate_renewal_timestamp_seconds", **who) == unix(status["renewalTime"])
    assert seen("certificate_ready", **who) == 1
    assert seen("certificate_info", **who, reason="Issued", issuing_reason="Issued") == 1
    assert seen("certificates", ready="True", reason="Issued", issuing_reason="Issued") == 1
    assert seen("certificates_earliest_not_after_timestamp_seconds") == unix(status["expiresAt"])
    assert seen("attempts_total", need="FirstIssue", result="Issued") == 1
    assert seen("events_total", type="Normal", reason="Issued") == 1
    assert seen("attempts_unresolved") == seen("certificates_overdue") == 0

    await world.delete("site")
    await world.quiet()
    seen = told(world)
    assert not seen.names(**who)
    assert "certificates" not in seen.names()
    assert seen("vercel_requests_total", call="issue", code="200") == 1
    assert seen("vercel_request_duration_seconds_count", call="remove") == 1


async def test_what_is_overdue_shows_by_its_own_renewal_time(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    world.emulator.faults.add(Fault(call="issue", status=402, code="payment_required", times=None))
    status = await world.status("site")
    await advance_to(world, status["renewalTime"], plus=60)
    seen = told(world)
    assert seen("certificates_overdue") == 0
    assert seen("certificates", ready="True", reason="Issued", issuing_reason="PaymentRequired") == 1
    assert seen("attempts_total", need="RenewalDue", result="PaymentRequired") == 1
    half = (unix(status["expiresAt"]) - unix(status["renewalTime"])) / 2
    await advance_to(world, status["renewalTime"], plus=half + 1)
    seen = told(world)
    assert (seen("certificates_overdue"), seen("certificates_expiring")) == (1, 0)
    await advance_to(world, status["expiresAt"], plus=1)
    seen = told(world)
    assert seen("certificate_ready", namespace=world.namespace, name="site") == 0
    assert seen("certificates_overdue") == seen("certificates_expiring") == 1


async def test_an_attempt_of_unknown_outcome_is_exported_until_it_is_resolved(world: World) -> None:
    world.emulator.faults.add(Fault(call="issue", when="before", action="reset"))
    await world.apply("site", ["example.com"])
    await world.quiet()
    seen, began = told(world), world.clock.now().timestamp()
    assert seen("attempts_unresolved") == 1
    start = seen("certificate_attempt_start_timestamp_seconds", namespace=world.namespace, name="site")
    assert began - 1 <= start <= began
    assert seen("attempts_unresolved_earliest_start_timestamp_seconds") == start
    assert seen("vercel_requests_total", call="issue", code="none") == 1
    assert seen("attempts_total", need="FirstIssue", result="OutcomeUnknown") == 1
    assert seen("events_total", type="Warning", reason="AttemptLost") == 0  # so that the first one is an increase
    await world.advance(5 * MINUTE)
    seen = told(world)
    assert seen("attempts_unresolved") == 0
    assert seen("events_total", type="Warning", reason="AttemptLost") == 1
    assert seen("certificate_ready", namespace=world.namespace, name="site") == 1


async def test_a_token_that_is_paused_is_exported_with_its_place(world: World) -> None:
    await put_secret(world, OTHER_TOKEN)
    await world.apply("site", ["example.com"])
    await world.quiet()
    world.emulator.faults.add(Fault(call="issue", status=429, headers={"Retry-After": "600"}))
    await world.apply("own", ["example.org"], tokenSecretRef=REF)
    await world.quiet()
    mine = f"{world.namespace}/vercel/token"
    seen = told(world)
    assert seen("token_paused", token=mine, reason="RateLimited") == 1
    assert (
        seen("token_paused", token=mine, reason="CredentialsInvalid")
        == seen("token_paused", token="default", reason="RateLimited")
        == 0
    )
    assert 599 <= seen("token_pause_seconds", token=mine) <= 661
    assert (seen("token_requests_limit", token=mine), seen("token_requests_limit", token="default")) == (1, 8)
    assert seen("token_requests_in_flight", token=mine) == seen("token_requests_waiting", token=mine) == 0

    await world.advance(HOUR)
    assert told(world)("token_paused", token=mine, reason="RateLimited") == 0
    await world.delete("own")
    await world.quiet()
    assert not told(world).names(token=mine)


async def test_no_token_is_in_it(world: World) -> None:
    await put_secret(world, OTHER_TOKEN)
    await world.apply("own", ["example.org"], tokenSecretRef=REF)
    await world.apply("site", ["example.com"])
    await world.quiet()
    text = generate_latest(world.scrape()).decode()
    assert OTHER_TOKEN not in text
    for account in world.operator.accounts.by_place.values() if world.operator else ():
        assert account._token.fingerprint not in text


async def test_a_standby_exports_no_metrics_of_certificates(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    seen = told(world, leads=False)
    assert seen("leader") == 0
    assert not [name for name in seen.names() if name.startswith(("certificate", "token_", "attempts_unres"))]
    assert told(world)("leader") == 1


async def test_a_large_fleet_can_do_without_series_for_each(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.apply("other", ["example.org"], suspend=True)
    await world.quiet()
    seen = told(world, per_certificate=False)
    assert not [name for name in seen.names() if name.startswith("certificate_")]
    assert seen("certificates", ready="True", reason="Issued", issuing_reason="Issued") == 1
    assert seen("certificates", ready="False", reason="Suspended", issuing_reason="Suspended") == 1


class TestOrphaned:
    """Certificates with the names of a resource that no resource uses."""

    @pytest.fixture
    def drift_interval(self) -> float:
        return 6 * 3600.0

    async def test_they_are_counted_until_they_are_gone(self, world: World) -> None:
        hanging = world.emulator.faults.add(Fault(call="issue", action="hang"))
        await world.apply("site", ["example.com"])
        await world.quiet(hanging=1)
        await world.restart()
        await world.advance(4 * MINUTE)
        hanging.release()
        await world.emulator.journal.wait("issue", 2, finished=True)
        [late] = set(world.live()) - {(await world.status("site"))["id"]}
        await world.advance(7 * HOUR)
        seen = told(world)
        assert seen("orphaned_certificates") == seen("events_total", type="Warning", reason="OrphanedCertificate") == 1
        world.emulator.state.vanish(late)
        await world.advance(7 * HOUR)
        assert told(world)("orphaned_certificates") == 0
