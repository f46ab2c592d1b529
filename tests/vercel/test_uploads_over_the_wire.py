"""Uploads and the configuration of domains on the wire: what is sent, and that the key is in no error and no log."""

import json
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from support.tls import Authority, secrets_of
from vercel.clients import client_of
from vercel.wire import CERTIFICATE, Action, Wire, answer, reply, send
from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.core.domains import DomainConfig
from vercel_certificate_operator.vercel import ApiError, NotSent, OutcomeUnknown, Upload, VercelClient, VercelError

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
TEAM = Scope(team_id="team_a")
LEAF = Authority(NOW - timedelta(days=365)).leaf(["example.com"], NOW)
KEY = LEAF.key_pem
UPLOAD = Upload(LEAF.pem, SecretStr(KEY), LEAF.ca_pem)


@pytest.fixture
async def client(wire: Wire) -> AsyncIterator[VercelClient]:
    async with client_of(wire.url) as vercel:
        yield vercel


async def failure(call: Awaitable[object]) -> VercelError:
    """The error of a call, of which no text that could be printed holds a line of the key."""
    with pytest.raises(VercelError) as caught:
        await call
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    texts = "".join(shown.format()) + repr(caught.value) + str(vars(caught.value))
    assert not any(line in texts for line in secrets_of(KEY))
    return caught.value


async def test_an_upload_is_one_put_with_three_texts(wire: Wire, client: VercelClient) -> None:
    certificate = await client.upload(UPLOAD, TEAM)
    (request,) = wire.requests
    assert (request.method, request.target) == ("PUT", "/v8/certs?teamId=team_a")
    assert json.loads(request.body) == {"ca": LEAF.ca_pem, "key": KEY, "cert": LEAF.pem}
    assert certificate.id == "cert_1"


ECHOES: dict[str, Action] = {
    "Vercel's own error": reply(400, {"error": {"code": "bad_request", "message": f"can't read {KEY}"}}),
    "a code": reply(400, {"error": {"code": KEY, "message": "no"}}),
    "names": reply(400, {"error": {"code": "bad", "message": "no", "cns": [KEY]}}),
    "a page": reply(502, f"<pre>{KEY}</pre>".encode()),
    "a JSON text": reply(502, {"sent": KEY}),
    "the request": reply(400, json.dumps({"ca": "", "key": KEY, "cert": ""}).encode()),
    "the key without its first line": reply(502, KEY.partition("\n")[2].encode()),
    "the key on one line": reply(502, KEY.replace("\n", "").encode()),
    "a redirect": reply(307, {}, Location="https://example.com/?" + KEY.replace("\n", "")),
    "an id": reply(200, {**CERTIFICATE, "id": [KEY]}),
    "a part of an answer": send(answer(200, json.dumps({"id": KEY}).encode())[:-20]),
    "nothing": send(b"", then="reset"),
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
async def test_an_answer_that_repeats_the_key_shows_it_nowhere(
    wire: Wire, client: VercelClient, caplog: pytest.LogCaptureFixture, echo: Action
) -> None:
    caplog.set_level(logging.DEBUG)
    # As in the operator: at DEBUG, httpcore logs the headers of answers.
    caplog.set_level(logging.WARNING, logger="httpcore")
    wire.actions[:] = [echo]
    await failure(client.upload(UPLOAD, TEAM))
    assert len(wire.requests) == 1
    assert not any(line in caplog.text for line in secrets_of(KEY))


async def test_an_oddity_does_not_show_the_key(wire: Wire, client: VercelClient) -> None:
    wire.actions[:] = [reply(200, {**CERTIFICATE, "cns": [KEY], "createdAt": KEY, "expiresAt": KEY})]
    certificate = await client.upload(UPLOAD, TEAM)
    shown = " ".join(certificate.oddities)
    assert not any(line in shown for line in secrets_of(KEY))


async def test_an_upload_that_is_fenced_off_is_not_sent(wire: Wire) -> None:
    async with client_of(wire.url, fence=lambda: "this replica does not lead") as client:
        assert isinstance(await failure(client.upload(UPLOAD, TEAM)), NotSent)
    assert wire.requests == []


async def test_an_upload_that_can_not_be_sent_shows_no_key() -> None:
    async with client_of("http://127.0.0.1:9") as client:
        assert isinstance(await failure(client.upload(UPLOAD, TEAM)), NotSent)


# --- the configuration of a domain ------------------------------------------------------------------------------------

CONFIG: dict[str, object] = {
    "configuredBy": "CNAME",
    "acceptedChallenges": ["http-01"],
    "recommendedIPv4": [{"rank": 2, "value": ["192.0.2.2"]}, {"rank": 1, "value": ["192.0.2.1"]}],
    "recommendedCNAME": [{"rank": 1, "value": "one.example"}],
    "misconfigured": False,
}


async def test_a_configuration_is_one_get(wire: Wire, client: VercelClient) -> None:
    wire.actions[:] = [reply(200, CONFIG)]
    config = await client.domain_config("example.com", TEAM)
    (request,) = wire.requests
    assert (request.method, request.target) == ("GET", "/v6/domains/example.com/config?teamId=team_a")
    assert config == DomainConfig(False, "CNAME", ("http-01",), ("192.0.2.1",), "one.example")


async def test_a_domain_can_not_lead_to_another_path(wire: Wire, client: VercelClient) -> None:
    wire.actions[:] = [reply(200, CONFIG)]
    await client.domain_config("../../v2/user?x#y", TEAM)
    assert wire.requests[0].target == "/v6/domains/..%2F..%2Fv2%2Fuser%3Fx%23y/config?teamId=team_a"


@pytest.mark.parametrize(
    "fewer",
    [{"misconfigured": True}, {"misconfigured": True, "configuredBy": None, "recommendedIPv4": [], "more": 1}],
)
async def test_a_configuration_may_say_little(wire: Wire, client: VercelClient, fewer: dict[str, Any]) -> None:
    wire.actions[:] = [reply(200, fewer)]
    assert await client.domain_config("example.com", TEAM) == DomainConfig(misconfigured=True)


@pytest.mark.parametrize("body", [{}, [], {"misconfigured": "perhaps"}, {**CONFIG, "recommendedIPv4": [{"rank": 1}]}])
async def test_what_is_no_configuration_is_not_taken_for_one(wire: Wire, client: VercelClient, body: object) -> None:
    wire.actions[:] = [reply(200, body)]
    assert isinstance(await failure(client.domain_config("example.com", TEAM)), OutcomeUnknown)


async def test_a_domain_that_vercel_does_not_know_is_an_error(wire: Wire, client: VercelClient) -> None:
    wire.actions[:] = [reply(404, {"error": {"code": "not_found", "message": "No such domain."}})]
    error = await failure(client.domain_config("example.com", TEAM))
    assert isinstance(error, ApiError)
    assert error.status == 404
