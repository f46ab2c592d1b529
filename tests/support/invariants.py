"""Invariants that hold after any failure: of the certificates at Vercel, its requests and the resources.

``check`` is for any moment at which the operator has done all that is due (after ``World.quiet`` or
``World.advance``). With ``quiet_since_seq`` it also checks that everything has settled since then.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from support.world import World
from vercel_certificate_operator.core.certificate import normalized
from vercel_certificate_operator.core.failures import Failure, Fate, issued_nothing, meaning
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.record import Origin
from vercel_emulator.models import Certificate, Entry

REPORTED_BY = frozenset(
    {
        Reason.ORPHANED,
        Reason.RETAINED,
        Reason.DELETED,
        Reason.DELETION_FAILED,
        Reason.CERTIFICATE_GONE,
        Reason.SCOPE_CHANGED,
    }
)
"""Reasons of the Events that name a certificate which is left to the user."""
OURS = frozenset({"issued", "uploaded"})
"""Where certificates of the operator come from, in the emulator's terms."""
MOST_REQUESTS_A_MINUTE = 15
"""To Vercel, for each resource: the tightest series (listings after 5, 10, 20 s) with what comes before and after."""
SLACK = timedelta(seconds=5)
"""Statuses hold whole seconds, and Vercel's clock is known to a second or two."""

NOTICED_WITHIN = timedelta(hours=1)
"""After the listing that shows it. A process that starts makes its first listing within an interval of its own."""

Body = Mapping[str, Any]


async def check(world: World, *, quiet_since_seq: int | None = None, forgotten: int = 0) -> None:
    """Raises AssertionError with the invariant that is violated.

    Args:
        quiet_since_seq: a sequence number of the emulator's journal. Since then nothing was to be done any more: so
            nothing was issued or removed, and what was replaced is gone.
        forgotten: how many certificates may be left that nobody can know of, since somebody threw the record away.
    """
    bodies = await world.all()
    lost = no_certificate_is_lost(world.emulator.state.live(), bodies, await events(world))
    problems = [
        *(lost if len(lost) > forgotten else ()),
        *no_certificate_has_two_holders(bodies),
        *(problem for body in bodies for problem in ready_means_ready(world, body)),
        *nothing_is_asked_for_before_its_time(world),
        *no_hot_loop(world, bodies),
    ]
    if quiet_since_seq is not None:
        problems += [*nothing_is_done_at_rest(world, quiet_since_seq), *nothing_replaced_is_left(world, bodies)]
    assert not problems, "\n".join([*problems, *story(world, bodies)])


async def events(world: World) -> list[dict[str, Any]]:
    """Returns the Events of the namespace."""
    found: Any = await world.custom.list_namespaced_custom_object("events.k8s.io", "v1", world.namespace, "events")
    return list(found["items"])


# --- the invariants ---------------------------------------------------------------------------------------------------


def no_certificate_is_lost(live: Iterable[Certificate], bodies: Iterable[Body], said: Iterable[Body]) -> list[str]:
    """Every certificate that was issued and is live is in a status, or an Event leaves it to the user.

    So no need has two: the second one would be in no status.
    """
    held = {certificate_id for body in bodies for certificate_id in ids(body)}
    said = list(said)
    return [
        f"certificate {certificate.id} for {certificate.cns} is live at Vercel, and nothing says so"
        for certificate in live
        if certificate.origin in OURS and certificate.id not in held and not is_reported(certificate, said)
    ]


def is_reported(certificate: Certificate, said: Iterable[Body]) -> bool:
    """Returns whether an Event leaves a certificate to the user.

    By its id, or (if the operator can't know that) as what may have come of an attempt for its names.
    """
    for event in said:
        note, reason = event["note"], event["reason"]
        if reason in REPORTED_BY and certificate.id in note:
            return True
        _, several, others = note.partition("may also be what was requested")
        if several and certificate.id in others:
            return True
        unknown = "was being requested" in note or "is not known whether" in note
        if reason in REPORTED_BY and unknown and all(name in note for name in certificate.cns):
            return True
    return False


def no_certificate_has_two_holders(bodies: Iterable[Body]) -> list[str]:
    """At most one status has a certificate that its resource may remove; others may have found the same one."""
    holders: defaultdict[str, list[str]] = defaultdict(list)
    for body in bodies:
        for certificate_id, origin in origins(body).items():
            if origin != Origin.FOUND:
                holders[certificate_id].append(body["metadata"]["name"])
    return [f"{certificate_id} stands in {names}" for certificate_id, names in holders.items() if len(names) > 1]


def ready_means_ready(world: World, body: Body) -> list[str]:
    """Ready is True only with a certificate at Vercel that covers spec.cns and has not expired, by Vercel's clock.

    What somebody else does at Vercel is noticed by the next listing for drift, and not before. A resource that is
    being deleted says what it is waiting for.
    """
    status = body.get("status") or {}
    ready = condition(body, "Ready")
    if ready.get("status") != "True" or body["metadata"].get("deletionTimestamp"):
        return []
    name, now = body["metadata"]["name"], world.emulator.clock.now_ms()
    certificate = world.emulator.state.find(status.get("id") or "")
    if certificate is None:
        return [f"{name} is Ready without a certificate: {status.get('id')}"]
    unnoticed = certificate.removed_by == "control" or certificate.settled_at > certificate.created_at
    since = (now - max(certificate.removed_at or 0, certificate.settled_at)) / 1000
    if (
        unnoticed
        and since <= world.settings.drift_interval * (2 if world.lives > 1 else 1) + NOTICED_WITHIN.total_seconds()
    ):
        return []
    problems = []
    if certificate.removed_at is not None:
        problems.append(f"{name} is Ready with {certificate.id}, which was removed by {certificate.removed_by}")
    if certificate.expires_at + SLACK.total_seconds() * 1000 < now:
        problems.append(f"{name} is Ready with {certificate.id}, which has expired")
    newest = ready.get("observedGeneration") == body["metadata"]["generation"]
    if newest and not normalized(body["spec"]["cns"]) <= normalized(certificate.cns):
        problems.append(f"{name} is Ready with {certificate.id} for {certificate.cns}, not {body['spec']['cns']}")
    return problems


def nothing_is_asked_for_before_its_time(world: World) -> list[str]:
    """After a POST that failed, the next one for the same names comes no earlier than the back-off allows.

    A change by a user ends the wait. The same holds for uploads; all of them count as those of one resource.
    """
    problems = []
    last: dict[tuple[str, str | None, frozenset[str], str], Entry] = {}
    for entry in world.emulator.journal.since():
        if entry.call not in {"issue", "upload"}:
            continue
        need = entry.call, entry.token, normalized(entry.cns or ()), str(sorted(entry.query.items()))
        before = last.get(need)
        last[need] = entry
        if before is None or any(before.seq <= seq < entry.seq for seq in world.acts):
            continue
        wait = least_wait(world, before)
        if timedelta(milliseconds=entry.time - before.time) + SLACK < wait:
            problems.append(
                f"{entry.call} {entry.seq} for {sorted(need[2])} came {(entry.time - before.time) / 1000:.0f} s after "
                f"{before.seq} ({outcome(before)}), which asks for {wait.total_seconds():.0f} s"
            )
    return problems


def least_wait(world: World, entry: Entry) -> timedelta:
    """Returns the shortest wait that any rule allows after a POST with this outcome."""
    if entry.outcome == "answered" and entry.certificate is not None and entry.action is None:
        certificate = world.emulator.state.find(entry.certificate)
        if certificate is None or certificate.removed_at is not None:
            return timedelta()
        # Not within the first tenth of its life.
        return timedelta(milliseconds=(certificate.expires_at - certificate.created_at) / 10)
    failure = failure_of(entry)
    if issued_nothing(failure):
        row = meaning(failure)
        return timedelta(seconds=1) if row.reason == Reason.RATE_LIMITED else row.first
    if failure.fate is Fate.REFUSED:
        return timedelta(seconds=30)
    return min(timedelta(minutes=2), timedelta(seconds=world.settings.post_timeout + 60))


def failure_of(entry: Entry) -> Failure:
    """Returns a failed POST as the operator's ``Failure``."""
    own_shape = entry.outcome == "answered" and entry.action in {None, "error"} and (entry.status or 0) >= 400
    return Failure(Fate.REFUSED if own_shape else Fate.UNKNOWN, "", entry.status, entry.code)


def is_refused(entry: Entry) -> bool:
    """Returns whether the answer to a POST proves that it issued nothing."""
    return issued_nothing(failure_of(entry))


def no_hot_loop(world: World, bodies: Iterable[Body]) -> list[str]:
    """Checks that the number of requests in any minute of Vercel's clock is bounded."""
    names = {normalized(entry.cns) for entry in world.emulator.journal.entries if entry.cns}
    bound = MOST_REQUESTS_A_MINUTE * max(len(list(bodies)), len(names), 1)
    times = [entry.time for entry in world.emulator.journal.entries]
    for start, end in zip(times, times[bound:], strict=False):
        if end - start < 60_000:
            return [f"more than {bound} requests within a minute, from {start} on"]
    return []


def nothing_is_done_at_rest(world: World, since: int) -> list[str]:
    """Checks that nothing is issued or removed if all resources are settled."""
    return [
        f"{entry.call} {entry.path} at rest ({outcome(entry)})"
        for entry in world.emulator.journal.since(since)
        if entry.call not in {"get", "list"}
    ]


def nothing_replaced_is_left(world: World, bodies: Iterable[Body]) -> list[str]:
    """What was replaced is removed in time: at rest, a resource that is ready has one certificate."""
    return [
        f"{body['metadata']['name']} still holds {body['status']['superseded']}"
        for body in bodies
        if condition(body, "Ready").get("status") == "True" and not body["spec"].get("suspend")
        for entry in body["status"].get("superseded", ())
        if parsed(entry["since"]) + timedelta(minutes=10) + SLACK < world.clock.now()
    ]


# --- reading ----------------------------------------------------------------------------------------------------------


def origins(body: Body) -> dict[str, str | None]:
    """Returns the origins of the certificates in a status by id."""
    status = body.get("status") or {}
    found = {entry["id"]: entry.get("origin") for entry in status.get("superseded", ())}
    return found | ({status["id"]: status.get("origin")} if status.get("id") else {})


def ids(body: Body) -> list[str]:
    """Returns the ids of the certificates in a status, the current one first."""
    status = body.get("status") or {}
    superseded = [entry["id"] for entry in status.get("superseded", ())]
    return [certificate_id for certificate_id in (status.get("id"), *superseded) if certificate_id]


def condition(body: Body, kind: str) -> Body:
    conditions: list[Body] = (body.get("status") or {}).get("conditions", [])
    return next((condition for condition in conditions if condition["type"] == kind), {})


def parsed(text: str) -> datetime:
    """Returns the time of an RFC 3339 text."""
    return datetime.fromisoformat(text)


def outcome(entry: Entry) -> str:
    """Returns how a request ended, for messages."""
    said = f"{entry.status} {entry.code}" if entry.code else str(entry.status)
    return f"{entry.outcome} {said}{f', {entry.action}' if entry.action else ''}"


def story(world: World, bodies: Iterable[Body]) -> list[str]:
    """Returns lines for the message of a failing test: the requests, and the resources."""
    start = world.emulator.journal.entries[0].time if world.emulator.journal.entries else 0
    lines = ["", "Vercel was asked:"]
    for entry in list(world.emulator.journal.entries)[-40:]:
        what = entry.certificate or entry.cns or ""
        lines.append(f"  {entry.seq:3} {(entry.time - start) / 1000:9.1f} s {entry.call:6} {outcome(entry)} {what}")
    lines.append("the resources:")
    for body in bodies:
        status = body.get("status") or {}
        lines.append(f"  {body['metadata']['name']}: {body['spec']['cns']}, holds {ids(body)}")
        lines += [f"    {c['type']}={c['status']} {c['reason']}: {c['message']}" for c in status.get("conditions", ())]
    return lines
