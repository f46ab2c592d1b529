"""A certificate that a user uploads from a Secret, and a domain whose DNS records are missing."""

import json
from typing import Any

import pytest

from support.acting import DAY, HOUR, MINUTE, asked, notes, seconds_until, superseded
from support.company import REF, Company
from support.invariants import events
from support.memory_api import SimulatedWorld
from support.tls import ALLOWED, Leaf, secrets_of
from vercel_emulator.models import DomainSetup, Fault

NAMES = ["shop.example.com"]
POLL = 12 * MINUTE
"""More than the interval at which Secrets are read, with its jitter."""


async def read_daily(world: SimulatedWorld) -> None:
    """Make the operator read Secrets and lists once a day: a test of months would otherwise read them very often."""
    await world.crash()
    world.configure(source_poll_interval=86400.0, drift_interval=86400.0)
    world.start()


@pytest.fixture
def company(world: SimulatedWorld) -> Company:
    return Company(world, NAMES)


async def uploaded(world: SimulatedWorld, company: Company) -> Leaf:
    """A certificate that is at Vercel."""
    leaf = await company.renew()
    await world.apply("shop", NAMES, certificateSecretRef=REF)
    await world.quiet()
    assert await world.ready("shop") == ("True", "Issued")
    return leaf


# --- the life of an upload --------------------------------------------------------------------------------------------


async def test_a_secret_is_uploaded_once(world: SimulatedWorld, company: Company) -> None:
    leaf = await uploaded(world, company)
    status = await world.status("shop")
    assert status["fingerprint"] == leaf.fingerprint
    assert status["origin"] == "Issued"
    assert status["cns"] == NAMES
    assert world.calls() == ["list", "upload"]
    await world.advance(DAY)
    assert len(asked(world, "upload")) == 1
    assert asked(world, "issue") == []


async def test_a_secret_that_comes_later_is_noticed(world: SimulatedWorld, company: Company) -> None:
    await world.apply("shop", NAMES, certificateSecretRef=REF)
    await world.quiet()
    assert await world.condition("shop", "Issuing") == (
        "False",
        "SourceInvalid",
        (
            "Secret web/shop-tls does not exist. Nothing was sent to Vercel for shop.example.com. Create it, or "
            "correct spec.certificateSecretRef. The operator checks the Secret every 10m."
        ),
    )
    assert world.calls() == []
    await company.renew(annotations={})
    await world.advance(POLL)
    assert "vercel-operator.io/allow-upload" in (await world.condition("shop", "Issuing"))[2]
    assert world.calls() == []
    await company.put(company.leaves[-1])
    await world.advance(POLL)
    assert await world.ready("shop") == ("True", "Issued")


async def test_a_certificate_that_vercel_refuses_is_uploaded_again_when_its_chain_is_corrected(
    world: SimulatedWorld, company: Company
) -> None:
    leaf = await company.renew()
    await company.put(leaf, entries={"crt": leaf.pem})
    await world.apply("shop", NAMES, certificateSecretRef=REF)
    await world.quiet()
    status, reason, message = await world.condition("shop", "Issuing")
    assert (status, reason) == ("False", "InvalidRequest")
    assert message.startswith("Vercel did not accept the uploaded certificate for shop.example.com: `cert` was not")
    assert "Correct the Secret as Vercel's message says. Next attempt: " in message
    await world.advance(HOUR)
    assert len(asked(world, "upload")) == 1
    await company.put(leaf)
    await world.advance(POLL)
    assert await world.ready("shop") == ("True", "Issued")


async def test_a_renew_request_reads_the_secret_at_once(world: SimulatedWorld, company: Company) -> None:
    await uploaded(world, company)
    leaf = await company.renew()
    await world.annotate("shop", "renew", "now")
    await world.quiet()
    assert (await world.status("shop"))["fingerprint"] == leaf.fingerprint
    assert (await world.status("shop"))["lastRenewRequest"] == "now"


async def test_a_renewed_secret_is_uploaded_and_the_old_certificate_goes_later(
    world: SimulatedWorld, company: Company
) -> None:
    await uploaded(world, company)
    old = (await world.status("shop"))["id"]
    leaf = await company.renew()
    await world.advance(POLL)
    status = await world.status("shop")
    assert status["fingerprint"] == leaf.fingerprint
    assert superseded(status) == [old]
    assert set(world.live()) == {old, status["id"]}, "one poll is not long enough for the old one to go"
    await world.advance(HOUR)
    assert set(world.live()) == {status["id"]}


async def test_a_year_of_renewals_leaves_one_certificate_and_is_always_ready(
    world: SimulatedWorld, company: Company
) -> None:
    await read_daily(world)
    await uploaded(world, company)
    for _ in range(6):
        await world.advance(55 * DAY)
        assert await world.ready("shop") == ("True", "Issued")
        await company.renew()
    await world.advance(3 * DAY)
    assert len(world.live()) == 1
    assert len(asked(world, "upload")) == 7


async def test_a_secret_that_nobody_renews_is_reported_and_issues_nothing(
    world: SimulatedWorld, company: Company
) -> None:
    await read_daily(world)
    annotations = {**ALLOWED, "cert-manager.io/certificate-name": "shop"}
    await company.renew(annotations=annotations)
    await world.apply("shop", NAMES, certificateSecretRef=REF)
    await world.quiet()
    await world.advance(seconds_until(world, (await world.status("shop"))["renewalTime"]) + 1)
    status, reason, message = await world.condition("shop", "Issuing")
    assert (status, reason) == ("False", "SourceNotRenewed")
    assert "Check the cert-manager Certificate shop." in message
    assert len(await notes(world, "shop", "SourceNotRenewed")) == 1
    assert await world.ready("shop") == ("True", "Issued")
    await world.advance(40 * DAY)
    assert await world.ready("shop") == ("False", "SourceNotRenewed")
    assert len(asked(world, "upload")) == 1
    assert asked(world, "issue") == []
    await company.renew()
    await world.advance(2 * DAY)
    assert await world.ready("shop") == ("True", "Issued")


async def test_a_lost_answer_is_found_and_nothing_is_uploaded_twice(world: SimulatedWorld, company: Company) -> None:
    leaf = await company.renew()
    world.emulator.faults.add(Fault(call="upload", action="reset", when="after"))
    await world.apply("shop", NAMES, certificateSecretRef=REF)
    await world.quiet()
    await world.advance(HOUR)
    status = await world.status("shop")
    assert (status["fingerprint"], status["origin"]) == (leaf.fingerprint, "Issued")
    assert len(asked(world, "upload")) == 1
    assert set(world.live()) == {status["id"]}


async def test_a_lost_answer_of_a_renewal_is_found_too(world: SimulatedWorld, company: Company) -> None:
    await uploaded(world, company)
    leaf = await company.renew()
    world.emulator.faults.add(Fault(call="upload", action="reset", when="after"))
    await world.advance(POLL + HOUR)
    assert (await world.status("shop"))["fingerprint"] == leaf.fingerprint
    assert len(asked(world, "upload")) == 2
    assert len(world.live()) == 1


async def test_an_upload_that_never_arrived_is_sent_again_after_the_search(
    world: SimulatedWorld, company: Company
) -> None:
    await company.renew()
    world.emulator.faults.add(Fault(call="upload", action="reset", when="before"))
    await world.apply("shop", NAMES, certificateSecretRef=REF)
    await world.quiet()
    assert await world.issuing("shop") == ("True", "OutcomeUnknown")
    await world.advance(HOUR)
    assert await world.ready("shop") == ("True", "Issued")
    assert len(world.live()) == 1


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_during_an_upload_uploads_nothing_twice(
    world: SimulatedWorld, company: Company, when: Any
) -> None:
    leaf = await company.renew()
    world.emulator.faults.add(Fault(call="upload", action="hang", when=when))
    await world.apply("shop", NAMES, certificateSecretRef=REF)
    await world.quiet(hanging=1)
    assert (await world.status("shop"))["attempt"]["fingerprint"] == leaf.fingerprint
    await world.crash()
    world.emulator.faults.clear("drop")
    world.start()
    await world.quiet()
    await world.advance(HOUR)
    assert await world.ready("shop") == ("True", "Issued")
    assert (await world.status("shop"))["fingerprint"] == leaf.fingerprint
    assert len(world.live()) == 1


async def test_a_secret_that_changes_during_the_search_for_its_predecessor_is_uploaded_after_it(
    world: SimulatedWorld, company: Company
) -> None:
    await company.renew()
    world.emulator.faults.add(Fault(call="upload", action="reset", when="after"))
    await world.apply("shop", NAMES, certificateSecretRef=REF)
    leaf = await company.renew(lifetime=120 * DAY)
    await world.quiet()
    await world.advance(2 * HOUR)
    assert (await world.status("shop"))["fingerprint"] == leaf.fingerprint
    assert len(world.live()) == 1


async def test_a_restart_costs_no_call_and_no_write(world: SimulatedWorld, company: Company) -> None:
    await uploaded(world, company)
    before = await world.get("shop")
    seen = world.emulator.journal.last
    await world.restart()
    assert world.calls(seen) == []
    assert await world.get("shop") == before


async def test_a_certificate_that_is_gone_at_vercel_is_uploaded_again(world: SimulatedWorld, company: Company) -> None:
    await uploaded(world, company)
    world.emulator.state.clear()
    await world.advance(DAY)
    assert await world.ready("shop") == ("True", "Issued")
    assert len(world.live()) == 1


async def test_a_deleted_resource_takes_its_upload_along(world: SimulatedWorld, company: Company) -> None:
    await uploaded(world, company)
    await world.delete("shop")
    await world.quiet()
    assert world.live() == {}
    assert await world.all() == []


async def test_a_user_who_switches_to_a_secret_and_back_is_always_served(
    world: SimulatedWorld, company: Company
) -> None:
    await world.apply("shop", NAMES)
    await world.quiet()
    issued = (await world.status("shop"))["id"]
    leaf = await company.renew()

    await world.apply("shop", NAMES, certificateSecretRef=REF)
    await world.quiet()
    status = await world.status("shop")
    assert status["fingerprint"] == leaf.fingerprint
    assert set(world.live()) == {issued, status["id"]}, "the new one comes before the old one goes"
    await world.advance(DAY)
    assert set(world.live()) == {status["id"]}

    await world.apply("shop", NAMES)
    await world.quiet()
    again = await world.status("shop")
    assert "fingerprint" not in again
    assert set(world.live()) == {status["id"], again["id"]}
    await world.advance(DAY)
    assert set(world.live()) == {again["id"]}
    assert await world.ready("shop") == ("True", "Issued")


async def test_a_user_who_no_longer_uploads_gets_an_issued_certificate_and_not_the_one_before_the_last(
    world: SimulatedWorld, company: Company
) -> None:
    await uploaded(world, company)
    await company.renew()
    await world.advance(POLL)
    before = await world.status("shop")
    (replaced,) = before["superseded"]
    assert replaced["fingerprint"] == company.leaves[0].fingerprint

    await world.apply("shop", NAMES)
    await world.quiet()
    status = await world.status("shop")
    assert len(asked(world, "issue")) == 1
    assert "fingerprint" not in status
    assert superseded(status) == [replaced["id"], before["id"]]
    await world.advance(DAY)
    assert set(world.live()) == {status["id"]}


async def test_a_switch_to_a_secret_that_is_wrong_keeps_the_issued_certificate(
    world: SimulatedWorld, company: Company
) -> None:
    await world.apply("shop", NAMES)
    await world.quiet()
    issued = (await world.status("shop"))["id"]
    await company.renew(["other.example.com"])
    await world.apply("shop", NAMES, certificateSecretRef=REF)
    await world.advance(DAY)
    assert await world.ready("shop") == ("True", "Issued")
    assert await world.issuing("shop") == ("False", "SourceInvalid")
    assert set(world.live()) == {issued}


async def test_an_administrator_who_turns_uploads_off_stops_them(world: SimulatedWorld, company: Company) -> None:
    await world.crash()
    world.configure(uploads=False)
    world.start()
    await company.renew()
    await world.apply("shop", NAMES, certificateSecretRef=REF)
    await world.advance(DAY)
    message = (await world.condition("shop", "Issuing"))[2]
    assert message.startswith("This operator uploads no certificates: its administrator turned that off.")
    assert asked(world, "upload") == []


async def test_the_key_is_in_no_log_no_event_no_status_and_no_metric(
    world: SimulatedWorld, company: Company, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    leaf = await company.renew()
    echo = Fault(call="upload", status=400, code="bad_request", message=f"Can't read {leaf.key_pem}")
    garbage = Fault(call="upload", action="raw", status=502, body=leaf.key_pem, content_type="text/plain")
    for fault in (echo, garbage):
        world.emulator.faults.add(fault)
    await world.apply("shop", NAMES, certificateSecretRef=REF)
    await world.advance(2 * HOUR)
    await world.annotate("shop", "renew", "1")
    await world.quiet()
    await world.advance(DAY)
    assert len(asked(world, "upload")) >= 3
    shown = [caplog.text, json.dumps(await world.all(), default=str), json.dumps(await events(world), default=str)]
    shown.append(repr(world.scrape()))
    for line in secrets_of(leaf.key_pem):
        assert not any(line in text for text in shown)


# --- a misconfigured domain -------------------------------------------------------------------------------------------


def configs(world: SimulatedWorld) -> int:
    return len(asked(world, "config"))


async def test_a_user_reads_which_records_are_missing_sets_them_and_gets_the_certificate(
    world: SimulatedWorld,
) -> None:
    setup = {
        "misconfigured": True,
        "recommendedIPv4": [{"rank": 1, "value": ["76.76.21.21"]}],
        "recommendedCNAME": [{"rank": 1, "value": "cname.example"}],
    }
    world.emulator.domains.set_up("example.com", DomainSetup.model_validate(setup))
    await world.apply("shop", ["example.com", "www.example.com"])
    await world.quiet()
    status, reason, message = await world.condition("shop", "Issuing")
    assert (status, reason) == ("False", "DomainNotConfigured")
    assert "Vercel sees example.com as not pointing to Vercel; set the DNS record A example.com 76.76.21.21." in message
    assert (
        "set the DNS record CNAME www.example.com cname.example, or the DNS record A www.example.com 76.76.21.21 if "
        "www.example.com is the root of its DNS zone." in message
    )
    domains = (await world.status("shop"))["domains"]
    assert [(domain["name"], domain["misconfigured"], domain["recommended"]) for domain in domains] == [
        ("example.com", True, [{"type": "A", "value": "76.76.21.21"}]),
        (
            "www.example.com",
            True,
            [{"type": "CNAME", "value": "cname.example"}, {"type": "A", "value": "76.76.21.21"}],
        ),
    ]
    world.emulator.domains.fix("example.com")
    await world.advance(HOUR)
    assert await world.ready("shop") == ("True", "Issued")
    assert "domains" not in await world.status("shop")


async def test_a_domain_is_asked_for_at_most_once_in_five_minutes_for_everyone(world: SimulatedWorld) -> None:
    world.emulator.domains.misconfigure("example.com")
    for number in range(5):
        await world.apply(f"shop-{number}", ["example.com", f"s{number}.example.com"])
    await world.advance(4 * MINUTE)
    paths = [entry.path for entry in asked(world, "config")]
    assert len(set(paths)) == 6
    assert len(paths) == 6


async def test_a_domain_that_stays_misconfigured_costs_little(world: SimulatedWorld) -> None:
    world.emulator.domains.misconfigure("example.com")
    await world.apply("shop", ["example.com"])
    await world.advance(DAY)
    assert await world.issuing("shop") == ("False", "DomainNotConfigured")
    assert configs(world) <= len(asked(world, "issue"))
    assert len((await world.status("shop"))["domains"]) == 1


async def test_a_configuration_that_can_not_be_read_changes_nothing_else(world: SimulatedWorld) -> None:
    world.emulator.faults.add(Fault(call="config", status=500, times=None))
    world.emulator.domains.misconfigure("example.com")
    await world.apply("shop", ["example.com"])
    await world.quiet()
    assert await world.issuing("shop") == ("False", "DomainNotConfigured")
    assert "domains" not in await world.status("shop")
    assert configs(world) == 1
    world.emulator.domains.fix("example.com")
    await world.advance(HOUR)
    assert await world.ready("shop") == ("True", "Issued")


async def test_another_resource_is_not_held_up_by_a_misconfigured_domain(world: SimulatedWorld) -> None:
    world.emulator.domains.misconfigure("example.com")
    await world.apply("shop", ["example.com"])
    await world.apply("site", ["example.org"])
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")


async def test_names_that_change_take_their_old_records_along(world: SimulatedWorld) -> None:
    world.emulator.domains.misconfigure("example.com")
    await world.apply("shop", ["example.com"])
    await world.quiet()
    await world.apply("shop", ["example.org"])
    await world.quiet()
    assert await world.ready("shop") == ("True", "Issued")
    assert "domains" not in await world.status("shop")
