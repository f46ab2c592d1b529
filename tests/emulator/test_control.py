"""The control API over HTTP, by its own client."""

import asyncio

import httpx
import pytest

from vercel_emulator import Emulator, EmulatorControl, Fault, RateLimit
from vercel_emulator.client import ControlError
from vercel_emulator.models import CertificateChange, ClockChange, Injection, TokenGrant

TOKEN = "test-token-not-a-secret"
CERTS = "/v8/certs"


async def test_the_journal_has_every_request_and_no_token(vercel: httpx.AsyncClient, control: EmulatorControl) -> None:
    made = (await vercel.post(CERTS, json={"cns": ["Example.com"]}, params={"slug": "alpha"})).json()["id"]
    await vercel.get(CERTS, headers={"Authorization": "Bearer another-test-token"})
    await control.add_fault(Fault(action="reset", when="after"))
    with pytest.raises(httpx.ReadError):
        await vercel.delete(f"{CERTS}/{made}", params={"teamId": "team_a"})

    journal = await control.journal()

    issued, refused, removed = journal.entries
    assert (issued.seq, issued.call, issued.method, issued.path, issued.query, issued.scope) == (
        1,
        "issue",
        "POST",
        CERTS,
        {"slug": "alpha"},
        "team_a",
    )
    assert (issued.cns, issued.certificate, issued.outcome, issued.status) == (["Example.com"], made, "answered", 200)
    assert (refused.call, refused.scope, refused.status) == ("list", None, 403)
    assert refused.code == "forbidden"
    assert (removed.call, removed.certificate, removed.outcome, removed.status) == ("remove", made, "dropped", None)
    assert removed.action == "reset"
    assert issued.time <= refused.time <= removed.time
    assert issued.token == removed.token != refused.token
    text = (await vercel.get("/_emulator/journal")).text
    assert TOKEN not in text
    assert "another-test-token" not in text
    assert journal.counts == {"issue": 1, "get": 0, "list": 1, "remove": 1, "upload": 0, "config": 0, "other": 0}
    assert [entry.seq for entry in (await control.journal(since=1, call="remove")).entries] == [3]
    assert (await control.journal(since=3)).entries == []
    await control.clear_journal()
    assert (await control.journal()).last == 0


async def test_old_journal_entries_are_dropped_but_counted() -> None:
    async with Emulator(tokens=(TOKEN,), journal_size=2) as emulator, EmulatorControl(emulator.url) as control:
        async with httpx.AsyncClient(trust_env=False) as client:
            for _ in range(3):
                await client.get(emulator.url + CERTS)
        journal = await control.journal()
    assert [entry.seq for entry in journal.entries] == [2, 3]
    assert journal.counts["list"] == 3


async def test_a_test_can_wait_for_requests(vercel: httpx.AsyncClient, control: EmulatorControl) -> None:
    waiting = asyncio.create_task(control.wait_for_requests("list", 2, finished=True))
    await vercel.get(CERTS)
    await vercel.get(CERTS)

    assert [entry.status for entry in (await waiting).entries] == [200, 200]
    with pytest.raises(TimeoutError, match="0 of 1 requests"):
        await control.wait_for_requests("issue", within=0)


async def test_other_people_add_change_and_remove_certificates(
    vercel: httpx.AsyncClient, control: EmulatorControl
) -> None:
    injected = await control.inject(
        Injection(cns=["Any thing"], scope="team_a", id="cert_theirs", created_at=5, expires_at=6, auto_renew=False)
    )
    path = f"{CERTS}/cert_theirs?teamId=team_a"
    assert (await vercel.get(path)).json() == {
        "id": "cert_theirs",
        "createdAt": 5,
        "expiresAt": 6,
        "autoRenew": False,
        "cns": ["Any thing"],
    }
    assert injected.origin == "injected"

    await control.change("cert_theirs", CertificateChange(cns=["example.com"], expires_at=7, auto_renew=True))
    changed = (await vercel.get(path)).json()
    assert (changed["cns"], changed["expiresAt"], changed["autoRenew"]) == (["example.com"], 7, True)
    assert changed["createdAt"] == 5

    gone = await control.vanish("cert_theirs")
    assert gone.removed_by == "control"
    assert (await vercel.get(path)).status_code == 404
    assert await control.certificates() == [gone]
    assert await control.certificates(live=True) == []
    for refused in (control.vanish("cert_theirs"), control.change("cert_theirs", CertificateChange(expires_at=1))):
        with pytest.raises(ControlError):
            await refused


async def test_faults_are_added_awaited_released_and_removed(
    vercel: httpx.AsyncClient, control: EmulatorControl
) -> None:
    fault = await control.add_fault(Fault(call="issue", action="hang", when="after", token=TOKEN))
    assert fault.fault.token != TOKEN
    request = asyncio.create_task(vercel.post(CERTS, json={"cns": ["example.com"]}))

    assert (await control.wait_for_fault(fault.id)).hanging == 1
    assert len(await control.certificates()) == 1
    await control.release(fault.id)
    assert (await request).status_code == 200

    [view] = await control.faults()
    assert (view.fired, view.used_up, view.hanging) == (1, True, 0)
    with pytest.raises(TimeoutError, match="fired 1 of 2 times"):
        await control.wait_for_fault(fault.id, fired=2, within=0)
    await control.remove_fault(fault.id)
    with pytest.raises(ControlError, match="no fault"):
        await control.remove_fault(fault.id)
    await control.add_fault(Fault())
    await control.clear_faults()
    assert await control.faults() == []


async def test_clock_limit_and_behaviour_are_set(vercel: httpx.AsyncClient, control: EmulatorControl) -> None:
    assert (await control.advance(3600)).offset == 3600
    assert (await control.move_clock(ClockChange(offset=-60))).offset == -60
    assert abs((await control.move_clock(ClockChange(set=2_000_000_000_000))).now - 2_000_000_000_000) < 60_000
    assert (await control.clock()).now >= 2_000_000_000_000

    await control.behave(lifetime="1h30m")
    behaviour = await control.behave(reissue="old")
    assert (behaviour.lifetime.total_seconds(), behaviour.reissue) == (5400, "old")

    await control.limit(RateLimit(limit=0))
    assert (await vercel.get(CERTS)).status_code == 429
    await control.limit(None)
    assert (await vercel.get(CERTS)).status_code == 200


async def test_tokens_and_teams_can_be_added_and_removed(vercel: httpx.AsyncClient, control: EmulatorControl) -> None:
    await control.add_team("team_c", "gamma")
    await control.grant(TokenGrant(token="another-test-token"))
    await control.revoke(TOKEN)
    assert (await vercel.get(CERTS)).status_code == 403
    vercel.headers["Authorization"] = "Bearer another-test-token"
    assert (await vercel.get(CERTS, params={"slug": "gamma"})).status_code == 200
    await control.remove_team("team_c")
    assert (await vercel.get(CERTS, params={"slug": "gamma"})).status_code == 403
    for refused in (
        control.revoke(TOKEN),
        control.remove_team("team_c"),
        control.add_team("nonsense", "x"),
        control.grant(TokenGrant(token="another-test-token", teams=["team_c"])),
    ):
        with pytest.raises(ControlError):
            await refused
    tokens = (await vercel.get("/_emulator/tokens")).text
    assert "another-test-token" not in tokens
    assert len((await vercel.get("/_emulator/teams")).json()) == 2


async def test_reset_restores_the_initial_state(
    emulator: Emulator, vercel: httpx.AsyncClient, control: EmulatorControl
) -> None:
    await vercel.post(CERTS, json={"cns": ["example.com"]})
    hanging = await control.add_fault(Fault(call="list", action="hang"))
    request = asyncio.create_task(vercel.get(CERTS))
    await control.wait_for_fault(hanging.id)
    await control.limit(RateLimit(limit=0))
    await control.misconfigure("*")
    await control.behave(renewal="same-id", lifetime="1h")
    await control.advance(1e6)
    await control.revoke(TOKEN)
    await control.remove_team("team_a")

    await control.reset()

    with pytest.raises(httpx.ReadError):
        await request
    assert await control.certificates() == []
    assert await control.faults() == []
    assert (await control.clock()).offset == 0
    assert (await control.journal()).counts["issue"] == 0
    assert emulator.state.behaviour.renewal == "off"
    assert await control.domains() == []
    certificate = (await vercel.post(CERTS, json={"cns": ["example.com"]}, params={"slug": "alpha"})).json()
    assert certificate["expiresAt"] - certificate["createdAt"] == 90 * 86_400_000


@pytest.mark.parametrize(
    ("method", "path", "body", "says"),
    [
        ("POST", "/faults", '{"action": "explode"}', "action"),
        ("POST", "/faults", '{"unheard": 1}', "unheard"),
        ("POST", "/faults", "{", "JSON"),
        ("POST", "/faults", "[]", "body"),
        ("PUT", "/rate-limit", "{}", "limit"),
        ("POST", "/clock", "{}", "one of advance"),
        ("POST", "/clock", '{"advance": 1, "offset": 1}', "one of advance"),
        ("POST", "/clock", '{"advance": 1e30}', "year 9000"),
        ("PATCH", "/behaviour", '{"lifetime": "soon"}', "not a duration"),
        ("PATCH", "/behaviour", '{"renewal": "maybe"}', "same-id"),
        ("POST", "/certificates", '{"cns": []}', "cns"),
        ("POST", "/certificates", '{"cns": ["a.com"], "scope": "team_none"}', "no scope"),
        ("GET", "/journal?since=x", "", "since"),
        ("GET", "/journal?call=x", "", "one of issue"),
        ("GET", "/journal/wait", "", "call"),
        ("POST", "/tokens", '{"token": "two words"}', "without spaces"),
        ("POST", "/rate-limits", '{"limit": -1}', "limit"),
        ("PUT", "/domains/*.example.com", "{}", "wildcard"),
        ("PUT", "/domains/example.com", '{"acceptedChallenges": ["tls-alpn-01"]}', "acceptedChallenges"),
        ("PATCH", "/behaviour", '{"listOrder": "random"}', "shuffled"),
        ("PATCH", "/behaviour", '{"listLag": -1}', "listLag"),
        ("PATCH", "/behaviour", '{"dateOffset": "NaN"}', "dateOffset"),
    ],
)
async def test_an_invalid_control_request_is_refused_with_a_reason(
    vercel: httpx.AsyncClient, method: str, path: str, body: str, says: str
) -> None:
    response = await vercel.request(method, f"/_emulator{path}", content=body)

    assert response.status_code == 400
    assert says in response.json()["error"]["message"]


async def test_the_control_api_lists_its_calls(vercel: httpx.AsyncClient, emulator: Emulator) -> None:
    calls = (await vercel.get("/_emulator/")).json()

    assert calls["/_emulator/clock"] == ["GET", "POST"]
    assert (await vercel.get("/_emulator/nothing")).status_code == 404
    assert (await vercel.get("/_emulator/faults/fault_9")).status_code == 404
    assert (await vercel.get("/_emulator/certificates/cert_9")).status_code == 404
    assert not emulator.journal.entries
