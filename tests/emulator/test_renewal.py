"""Vercel's own renewal, in all its forms."""

from datetime import timedelta

import httpx
import pytest

from vercel_emulator import Behaviour, Emulator, EmulatorControl, Renewal
from vercel_emulator.client import ControlError
from vercel_emulator.models import CertificateChange, Injection

CERTS = "/v8/certs"
DAY = 86_400
DAY_MS = DAY * 1000
HOUR_MS = 3_600_000


async def listed(vercel: httpx.AsyncClient) -> list[dict[str, object]]:
    certs: list[dict[str, object]] = (await vercel.get(CERTS)).json()["certs"]
    return certs


async def test_vercel_renews_under_the_same_id(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    emulator.state.behaviour = Behaviour(renewal="same-id")
    made = (await vercel.post(CERTS, json={"cns": ["example.com"]})).json()

    emulator.clock.advance(59 * DAY)
    assert await listed(vercel) == [made]

    emulator.clock.advance(2 * DAY)
    due = made["createdAt"] + 60 * DAY_MS
    assert await listed(vercel) == [{**made, "createdAt": due, "expiresAt": due + 90 * DAY_MS}]

    emulator.clock.advance(365 * DAY)  # six more of them
    due += 6 * 60 * DAY_MS
    assert await listed(vercel) == [{**made, "createdAt": due, "expiresAt": due + 90 * DAY_MS}]
    assert [certificate.renewals for certificate in emulator.state.all()] == [7]


async def test_a_renewal_may_leave_created_at_as_it_was(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    emulator.state.behaviour = Behaviour(
        renewal="same-id", renewal_moves_created_at=False, renew_before=timedelta(days=10)
    )
    made = (await vercel.post(CERTS, json={"cns": ["example.com"]})).json()

    emulator.clock.advance(81 * DAY)

    assert await listed(vercel) == [{**made, "expiresAt": made["createdAt"] + (80 + 90) * DAY_MS}]


async def test_renewals_that_leave_created_at_as_it_was_stay_apart(emulator: Emulator) -> None:
    emulator.state.behaviour = Behaviour(renewal="same-id", renewal_moves_created_at=False)
    certificate = emulator.state.issue(["example.com"])

    renewals = []
    for _ in range(12):
        emulator.clock.advance(59 * DAY)
        emulator.state.settle()
        renewals.append(certificate.renewals)

    assert renewals == [59 * (number + 1) // 60 for number in range(12)]


@pytest.mark.parametrize("removes_old", [False, True])
async def test_vercel_renews_under_a_new_id(
    emulator: Emulator, vercel: httpx.AsyncClient, *, removes_old: bool
) -> None:
    emulator.state.behaviour = Behaviour(renewal="new-id", renewal_removes_old=removes_old)
    made = (await vercel.post(CERTS, json={"cns": ["example.com"]})).json()

    emulator.clock.advance(61 * DAY)

    new, *old = await listed(vercel)
    assert old == ([] if removes_old else [made])
    assert new["id"] != made["id"]
    assert new["cns"] == made["cns"]
    assert new["createdAt"] == made["createdAt"] + 60 * DAY_MS
    assert len(await listed(vercel)) == len(old) + 1
    first, second = emulator.state.all()
    assert first.replaced_by == second.id == new["id"]
    assert second.origin == "renewed"


async def test_vercel_renews_only_existing_certificates_with_auto_renew(
    emulator: Emulator, vercel: httpx.AsyncClient
) -> None:
    emulator.state.behaviour = Behaviour(renewal="same-id")
    kept, removed = (emulator.state.issue(["example.com"]) for _ in range(2))
    emulator.state.change(kept.id, CertificateChange(auto_renew=False))
    emulator.state.remove(removed.id, scope=removed.scope)

    emulator.clock.advance(365 * DAY)

    assert [certificate["id"] for certificate in await listed(vercel)] == [kept.id]
    assert [certificate.renewals for certificate in emulator.state.all()] == [0, 0]


async def test_a_renewal_is_not_dated_before_it_was_switched_on(emulator: Emulator) -> None:
    emulator.state.issue(["example.com"])
    emulator.clock.advance(80 * DAY)
    emulator.state.behaviour = Behaviour(renewal="same-id")
    now = emulator.clock.now_ms()

    [certificate] = emulator.state.live()

    assert now - 1000 <= certificate.created_at <= emulator.clock.now_ms()


@pytest.mark.parametrize("form", ["same-id", "new-id"])
async def test_a_renewal_can_add_names_and_be_backdated(
    emulator: Emulator, vercel: httpx.AsyncClient, form: str
) -> None:
    emulator.state.behaviour = Behaviour.model_validate(
        {
            "renewal": form,
            "renewBefore": "10d",
            "renewalBackdate": "1h",
            "renewalAdds": ["www.example.com", "example.com", "example.org"],
            "renewalRemovesOld": True,
        }
    )
    made = (await vercel.post(CERTS, json={"cns": ["example.com"]})).json()

    emulator.clock.advance(80 * DAY + 1)

    [renewed] = await listed(vercel)
    assert (renewed["id"] == made["id"]) == (form == "same-id")
    assert renewed["cns"] == ["example.com", "www.example.com"]
    due = made["createdAt"] + 80 * DAY_MS
    assert renewed["createdAt"] == due - HOUR_MS
    assert renewed["expiresAt"] == due - HOUR_MS + 90 * DAY_MS


async def test_renewals_are_backdated_as_new_certificates_are(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    emulator.state.behaviour = Behaviour(renewal="new-id", backdate=timedelta(hours=1))
    made = (await vercel.post(CERTS, json={"cns": ["example.com"]})).json()

    emulator.clock.advance(60 * DAY)

    assert (await listed(vercel))[0]["createdAt"] == made["createdAt"] + 60 * DAY_MS - HOUR_MS


@pytest.mark.parametrize("form", ["same-id", "new-id"])
async def test_a_renewal_that_is_backdated_too_far_does_not_renew_without_end(emulator: Emulator, form: str) -> None:
    emulator.state.behaviour = Behaviour.model_validate({"renewal": form, "backdate": "90d"})
    emulator.state.issue(["example.com"])
    emulator.clock.advance(365 * DAY)

    renewals = [(len(emulator.state.all()), emulator.state.all()[-1].renewals) for _ in range(3)]

    assert len(set(renewals)) == 1
    assert emulator.state.all()[-1].expires_at > emulator.clock.now_ms()


async def test_a_test_can_renew_one_certificate_at_any_time(
    emulator: Emulator, vercel: httpx.AsyncClient, control: EmulatorControl
) -> None:
    old = emulator.state.inject(Injection(cns=["example.com"], scope="team_a", id="cert_old", auto_renew=False))
    emulator.clock.advance(5 * DAY)

    renewed = await control.renew(
        "cert_old", Renewal(id="cert_new", adds=["www.example.com", "other.org"], backdate=timedelta(hours=1))
    )

    assert (renewed.id, renewed.scope, renewed.origin, renewed.auto_renew) == ("cert_new", "team_a", "renewed", True)
    assert renewed.cns == ["example.com", "www.example.com"]
    assert 0 <= emulator.clock.now_ms() - HOUR_MS - renewed.created_at < 60_000
    assert renewed.expires_at == renewed.created_at + 90 * DAY_MS
    assert old.removed_at is None
    assert old.replaced_by == "cert_new"
    again = await control.renew("cert_new", Renewal(form="same-id", expires_at=2_000_000_000_000))
    assert (again.id, again.expires_at, again.renewals) == ("cert_new", 2_000_000_000_000, 1)
    last = await control.renew("cert_new", Renewal(removes_old=True))
    assert [certificate.id for certificate in emulator.state.live()] == ["cert_old", last.id]
    for cert_id, renewal in (("cert_none", Renewal()), ("cert_old", Renewal(id="cert_new"))):
        with pytest.raises(ControlError):
            await control.renew(cert_id, renewal)
