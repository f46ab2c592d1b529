"""Every state that a VercelCertificate can be in, and how it gets there.

The real operator writes the resources, on a real API server, with an emulated Vercel. The name of a state in ``STATES``
is its file in ``testdata``, and begins with the health that Argo CD shows for it.
"""

import copy
import json
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from unittest.mock import PropertyMock, patch

from support.acting import DAY, HOUR, MINUTE, REF, create_many, put_secret, seconds_until
from support.company import REF as SECRET
from support.company import Company
from support.tls import ALLOWED
from support.world import TOKEN, World
from vercel_certificate_operator.core.record import MOST_SUPERSEDED
from vercel_certificate_operator.core.resource import Resource, Status
from vercel_certificate_operator.kube.vercel_certificates import Body, VercelCertificates
from vercel_certificate_operator.vercel_time import VercelTime
from vercel_emulator import Behaviour, Fault
from vercel_emulator.models import Injection, TokenGrant

NAME = "example-com"
CNS = ["example.com", "*.example.com"]
Play = Callable[[World], Awaitable[None]]
STATES: dict[str, Play] = {}


def state(name: str) -> Callable[[Play], Play]:
    """Register a state. Its name is that of its file in ``testdata``: health in lower case, ``_``, situation."""

    def add(play: Play) -> Play:
        STATES[name] = play
        return play

    return add


async def issued(world: World, **spec: Any) -> None:
    await world.apply(NAME, CNS, **spec)
    await world.quiet()


def refuse(world: World, status: int, **more: Any) -> None:
    """From now on, Vercel answers so to every POST."""
    world.emulator.faults.add(Fault(call="issue", status=status, times=None, **more))


async def cannot_adopt(world: World, status: int) -> None:
    """The certificate to adopt can't be read: Vercel answers so."""
    world.emulator.faults.add(Fault(call="get", status=status, times=None))
    await put_secret(world, TOKEN)
    adopt = {"vercel-operator.io/adopt-id": "cert_madeByHand"}
    await world.apply(NAME, CNS, annotations=adopt, tokenSecretRef=REF)
    await world.quiet()


async def long_post(world: World, act: Awaitable[None]) -> None:
    """Act; the POST that follows takes Vercel long to answer, and status reports it."""
    world.emulator.faults.add(Fault(call="issue", action="hang", times=None))
    await act
    await world.quiet(hanging=1)
    assert (await world.issuing(NAME))[0] == "True"


async def until(world: World, field: str, *, plus: float = 1.0) -> None:
    """Let time pass until a time in status, and so many seconds more. One request to Vercel may hang then."""
    await world.advance(seconds_until(world, (await world.status(NAME))[field]) + plus, hanging=1)


# --- Progressing ------------------------------------------------------------------------------------------------------


@state("progressing_noStatus")
async def _(world: World) -> None:
    await world.crash()
    await world.apply(NAME, CNS)


@state("progressing_firstIssue")
async def _(world: World) -> None:
    await long_post(world, world.apply(NAME, CNS))


@state("progressing_outcomeUnknown")
async def _(world: World) -> None:
    world.emulator.faults.add(Fault(call="issue", action="reset"))
    await issued(world)


@state("progressing_staleStatus")
async def _(world: World) -> None:
    await issued(world)
    await world.crash()
    await world.apply(NAME, [*CNS, "example.org"])


@state("progressing_namesChanged")
async def _(world: World) -> None:
    await issued(world)
    await long_post(world, world.apply(NAME, [*CNS, "shop.example.com"]))


@state("progressing_certificateGone")
async def _(world: World) -> None:
    world.configure(drift_interval=6 * 3600)
    await world.restart()
    await issued(world)
    world.emulator.state.vanish((await world.status(NAME))["id"])
    await long_post(world, world.advance(7 * HOUR, hanging=1))


@state("progressing_expired")
async def _(world: World) -> None:
    await expired_meanwhile(world)
    await long_post(world, world.quiet(hanging=1))


@state("progressing_deleting")
async def _(world: World) -> None:
    await issued(world)
    world.emulator.faults.add(Fault(call="remove", status=500, times=None))
    await world.delete(NAME)
    await world.quiet()


# --- Healthy ----------------------------------------------------------------------------------------------------------


@state("healthy_issued")
async def _(world: World) -> None:
    await issued(world)


@state("healthy_renewing")
async def _(world: World) -> None:
    await issued(world)
    await long_post(world, until(world, "renewalTime"))


@state("healthy_renewRequested")
async def _(world: World) -> None:
    await issued(world)
    await world.advance(DAY)
    await long_post(world, world.annotate(NAME, "renew", "2026-11-26T08:00:00Z"))


@state("healthy_renewed")
async def _(world: World) -> None:
    await issued(world)
    await until(world, "renewalTime")


@state("healthy_renewalFailed")
async def _(world: World) -> None:
    await issued(world)
    refuse(world, 402)
    await until(world, "renewalTime")


@state("healthy_uploaded")
async def _(world: World) -> None:
    await uploaded(world)


@state("healthy_sourceNotRenewed")
async def _(world: World) -> None:
    await uploaded(world)
    await until(world, "renewalTime")


@state("healthy_sourceInvalid")
async def _(world: World) -> None:
    company = await uploaded(world)
    await company.renew(["example.org"])
    await world.annotate(NAME, "renew", "now")
    await world.quiet()


@state("healthy_notRenewed")
async def _(world: World) -> None:
    world.emulator.state.behaviour = Behaviour(lifetime=90 * DAY, reissue="old")
    await issued(world)
    await until(world, "renewalTime")


@state("healthy_reused")
async def _(world: World) -> None:
    world.emulator.state.inject(Injection(cns=CNS, id="cert_madeByHand"))
    await issued(world)


@state("healthy_scopeChanged")
async def _(world: World) -> None:
    await issued(world)
    world.configure(team_id="team_alpha")
    await world.restart()
    await world.quiet()


@state("healthy_issuanceLimited")
async def _(world: World) -> None:
    """Something adds a name and removes it again and again. The certificate covers the fewer names, too."""
    for number in range(6):
        await world.apply(NAME, CNS if number % 2 else [*CNS, "shop.example.com"])
        await world.quiet()
        await world.advance(HOUR)


# --- Suspended --------------------------------------------------------------------------------------------------------


@state("suspended_withoutCertificate")
async def _(world: World) -> None:
    await issued(world, suspend=True)


@state("suspended_withCertificate")
async def _(world: World) -> None:
    await issued(world)
    await world.patch(NAME, {"spec": {"suspend": True}})
    await world.quiet()


@state("suspended_expired")
async def _(world: World) -> None:
    await issued(world)
    await world.patch(NAME, {"spec": {"suspend": True}})
    await world.quiet()
    await until(world, "expiresAt")


# --- Degraded ---------------------------------------------------------------------------------------------------------


@state("degraded_invalidRequest")
async def _(world: World) -> None:
    refuse(world, 400, code="wildcard_not_allowed", message="Wildcard certificates need Vercel DNS.")
    await issued(world)


@state("degraded_credentialsInvalid")
async def _(world: World) -> None:
    await issued(world, tokenSecretRef=REF)


async def refused(world: World, *, status: int) -> None:
    refuse(world, status)
    await issued(world)


for name, status in {
    "paymentRequired": 402,
    "permissionDenied": 403,
    "domainNotFound": 404,
    "rateLimited": 429,
}.items():
    state(f"degraded_{name}")(partial(refused, status=status))


@state("degraded_domainNotConfigured")
async def _(world: World) -> None:
    world.emulator.domains.misconfigure("example.com")
    await issued(world)


@state("degraded_vercelUnreachable")
async def _(world: World) -> None:
    await world.emulator.stop()
    await issued(world)


@state("degraded_tokenRejected")
async def _(world: World) -> None:
    world.emulator.accounts.revoke(TOKEN)
    await issued(world)


@state("degraded_vercelUnavailable")
async def _(world: World) -> None:
    await cannot_adopt(world, 500)


@state("degraded_attemptLost")
async def _(world: World) -> None:
    refuse(world, 500)
    await issued(world)
    await world.advance(5 * MINUTE)


@state("degraded_unexpectedAnswer")
async def _(world: World) -> None:
    other = Fault(call="issue", action="answer", fields={"cns": ["other.example"]}, times=None)
    world.emulator.faults.add(other)
    world.emulator.faults.add(other.model_copy(update={"call": "get"}))
    await issued(world)


@state("degraded_duplicateOf")
async def _(world: World) -> None:
    await world.apply("older", CNS)
    await world.quiet()
    await world.apply(NAME, CNS)
    await world.quiet()


@state("degraded_scopeChanged")
async def _(world: World) -> None:
    await issued(world)
    world.configure(team_id="team_alpha")
    await world.restart()
    await until(world, "expiresAt")


@state("degraded_scopeVanished")
async def _(world: World) -> None:
    world.configure(drift_interval=6 * 3600)
    await world.restart()
    await create_many(world, 7)
    await issued(world)
    world.emulator.accounts.grant(TokenGrant(token=TOKEN, user="somebody-else"))
    await world.advance(7 * HOUR)


@state("degraded_issuanceLimited")
async def _(world: World) -> None:
    world.configure(drift_interval=6 * 3600)
    await world.restart()
    await issued(world)
    for _ in range(5):
        world.emulator.state.vanish((await world.status(NAME))["id"])
        await world.advance(7 * HOUR)


@state("degraded_tooManySuperseded")
async def _(world: World) -> None:
    world.emulator.faults.add(Fault(call="remove", status=400, times=None))
    await issued(world)
    for number in range(MOST_SUPERSEDED):
        await world.annotate(NAME, "renew", str(number))
        await world.quiet()
    await world.apply(NAME, [*CNS, "shop.example.com"])
    await world.quiet()


@state("degraded_clockSkew")
async def _(world: World) -> None:
    with patch.object(VercelTime, "skew", new_callable=PropertyMock, return_value=40 * DAY):
        await expired_meanwhile(world)
        await world.quiet()


class OlderDefinition(VercelCertificates):
    """The API server drops a field that the installed definition lacks."""

    async def write_status(self, resource: Resource, status: Status, *, closes_attempt: bool) -> Body:
        return await super().write_status(resource, status.changed(attempt=None), closes_attempt=closes_attempt)


@state("degraded_schemaOutdated")
async def _(world: World) -> None:
    world.certificates_class = OlderDefinition
    await world.restart()
    await issued(world)


@state("degraded_sourceInvalid")
async def _(world: World) -> None:
    await Company(world, CNS).renew(annotations={})
    await issued(world, certificateSecretRef=SECRET)


@state("degraded_sourceNotRenewed")
async def _(world: World) -> None:
    await uploaded(world)
    await until(world, "expiresAt")


@state("degraded_requestRefused")
async def _(world: World) -> None:
    await cannot_adopt(world, 400)


@state("degraded_expired")
async def _(world: World) -> None:
    refuse(world, 402, skip=1)
    await expired_meanwhile(world)
    await world.quiet()


# --- shared by several ------------------------------------------------------------------------------------------------


async def uploaded(world: World) -> Company:
    """The certificate came from a Secret, which is read once a day."""
    await world.crash()
    world.configure(source_poll_interval=86400.0)
    world.start()
    company = Company(world, CNS)
    await company.renew(annotations={**ALLOWED, "cert-manager.io/certificate-name": "shop"})
    await issued(world, certificateSecretRef=SECRET)
    return company


async def expired_meanwhile(world: World) -> None:
    """The certificate expired while the operator was down."""
    await issued(world)
    await world.crash()
    await world.clock.advance(seconds_until(world, (await world.status(NAME))["expiresAt"]) + 1)
    world.start()


# --- comparing resources ----------------------------------------------------------------------------------------------


def as_shown(world: World, body: dict[str, Any]) -> dict[str, Any]:
    """Return what ``kubectl get -o yaml`` shows, with the same namespace and address in each run."""
    body = copy.deepcopy(body)
    body["metadata"].pop("managedFields", None)
    text = json.dumps(body).replace(world.namespace, "web").replace(world.emulator.url, "https://api.vercel.com")
    shown: dict[str, Any] = json.loads(text)
    return shown


def alike(body: dict[str, Any]) -> dict[str, Any]:
    """Return a resource without everything in which two runs differ: times, uids, versions, ids, hashes."""
    text = json.dumps(body)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME", text)
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UID", text)
    text = re.sub(r"cert_[A-Za-z0-9]+", "cert_ID", text)
    text = re.sub(r"\battempt-\d+", "attempt-N", text)
    text = re.sub(r"\b([0-9a-f]{32}){1,2}\b", "HASH", text)
    found: dict[str, Any] = json.loads(text)
    found["metadata"]["resourceVersion"] = "VERSION"
    return found
